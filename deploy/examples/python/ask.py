#!/usr/bin/env python3
"""A web tier in Python: ask.py KEY PROGRAM USER prints the link for a user. It takes `pip install nats-py`."""
import asyncio
import json
import os
import sys

import nats


async def link(nc, key, program, user):
    ask = {"key": {"name": key}, "spawn_config": {"executable": {"command": [program]}}, "user": user}
    reply = await nc.request("jetway.ctl.connect", json.dumps(ask).encode(), timeout=10)
    if reply.headers and "Nats-Service-Error" in reply.headers:
        raise RuntimeError(json.loads(reply.data)["message"])
    return json.loads(reply.data)["url"]


async def main():
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    print(await link(nc, *sys.argv[1:4]))
    await nc.close()


asyncio.run(main())
