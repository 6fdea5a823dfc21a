"""Connects to a key, watches its backend until it is ready, and ends it. pip install nats-py; NATS_URL=nats://… python session.py [name]"""
import asyncio, json, os, sys
import nats

async def ask(nc, subject, payload):
    reply = await nc.request(subject, json.dumps(payload).encode(), timeout=5, headers={"Jetway-Timeout": "4900ms"})
    if (reply.headers or {}).get("Nats-Service-Error-Code"):
        raise RuntimeError("{kind}: {message}".format(**json.loads(reply.data)))
    return json.loads(reply.data)

async def history(nc, subject):
    seq = 0
    while True:
        get = json.dumps({"seq": seq + 1, "next_by_subj": subject}).encode()
        msg = await nc.request("$JS.API.DIRECT.GET.JETWAY_EVENTS", get, timeout=5)
        if "Nats-Sequence" not in (msg.headers or {}):
            return  # 404: that is the end
        seq = int(msg.headers["Nats-Sequence"])
        yield json.loads(msg.data)

async def watch(nc, backend):
    subject, last = "jetway.event.backend." + backend, 0
    live = await nc.subscribe(subject)  # first this, then the history, then a worker's word
    await nc.flush()
    heard = []
    while True:
        if not heard:  # at first, and after 20 s of silence: servers that do not hear each other pass nothing on
            heard = [event async for event in history(nc, subject)]
            heard.append(await ask(nc, "jetway.ctl.status", {"backend_id": backend}))
        for event in sorted(heard, key=lambda e: e["number"]):
            if event["number"] > last:
                last = event["number"]
                yield event
        try:
            heard = [json.loads((await live.next_msg(timeout=20)).data)]
        except nats.errors.TimeoutError:
            heard = []

async def main(name):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), inbox_prefix=os.environ.get("INBOX", "_INBOX").encode())
    spawn = {"executable": json.loads(os.environ.get("EXECUTABLE", '{"command": ["room"]}'))}
    session = await ask(nc, "jetway.ctl.connect", {"key": {"name": name}, "spawn_config": spawn})
    async for event in watch(nc, session["backend_id"]):
        print(event["status"], session["url"] if event["status"] == "ready" else "")
        if event["status"] == "ready":
            await ask(nc, "jetway.ctl.terminate", {"backend_id": session["backend_id"]})
        if event["status"] == "terminated":
            return await nc.close()

asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "document-1"))
