#!/usr/bin/env python3
"""A runtime for Jetway's drones, for reference: programs below a directory, each as a process.

    runtime.py --socket /run/rooms.sock --root /opt/backends --state /var/lib/rooms

It speaks the protocol of deploy/RUNTIME.md. What it runs outlives it: its next run finds the
processes by their environment, and their output in FIFOs. Replace `Backend`, `recover` and `start`
by what waits for, finds and starts your microVMs, sandboxes or jobs.
"""

import argparse, collections, contextlib, fcntl, itertools, json, os, random, select, signal, socket, socketserver, subprocess, threading, time
from http.server import BaseHTTPRequestHandler

EPOCH = f"{time.time_ns():x}"  # of this run's marks: those of another run mean nothing
STREAMS = "stdout", "stderr"
changed = threading.Condition()  # guards all below; notified with each event
backends = {}  # (drone, id): Backend, until it is forgotten
dead = collections.deque(maxlen=100_000)  # (drone, id) that must not be started any more
events = collections.deque(maxlen=4096)  # (number, drone, event): what is told again
numbers, turns = itertools.count(1), itertools.count(random.randrange(8000))

class Refused(Exception): """What a request asks for cannot be; the text is for who made it."""
class Backend:
    def __init__(self, drone, id, address, pid, child=None):
        self.drone, self.id, self.address, self.pid, self.child = drone, id, address, pid, child
        self.pidfd, self.ended, self.asleep = os.pidfd_open(pid), None, False
        threading.Thread(target=self.watch, daemon=True).start()
    def view(self, after=0):
        output = [e for n, d, e in events if n > after and (d, e["backend_id"]) == (self.drone, self.id) and "line" in e]
        return {"backend_id": self.id, "address": self.address, "pid": self.pid, "asleep": self.asleep, **({"ended": self.ended, "output": output} if self.ended else {})}
    def watch(self):
        """Reads what it writes until it has ended, ends what is left of it, and tells."""
        pipes = {os.open(fifo(self.drone, self.id, s), os.O_RDWR | os.O_NONBLOCK): s for s in STREAMS}
        poll, rest, ready = select.poll(), dict.fromkeys(pipes, b""), []
        [poll.register(fd, select.POLLIN) for fd in (self.pidfd, *pipes)]
        while ready != [self.pidfd]:
            ready = [fd for fd, _ in poll.poll()]
            for fd in filter(pipes.get, ready):
                *lines, rest[fd] = (rest[fd] + os.read(fd, 8192)).split(b"\n")
                if len(rest[fd]) > 8192:  # a line as long as it likes takes no more memory
                    lines, rest[fd] = [*lines, rest[fd]], b""
                for line in lines:
                    self.tell(stream=pipes[fd], line=line.decode(errors="replace"))
        code = self.child and self.child.wait()
        while left := [pid for pid, env in labelled() if key_of(env) == (self.drone, self.id)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left[0], signal.SIGKILL)
            time.sleep(0.001)
        for fd in pipes:
            self.tell(stream=pipes[fd], line=rest[fd].decode(errors="replace")) if rest[fd] else None
            os.close(fd)
        self.tell(ended={"message": "it ended under a later run of the runtime's server, which cannot know how"} if code is None
                  else {"exit_code": code} if code >= 0 else {"signal": signal.Signals(-code).name})
    def tell(self, **event):
        with changed:
            self.ended, n = event.get("ended"), next(numbers)
            events.append((n, self.drone, {"at": f"{EPOCH}-{n}", "backend_id": self.id, **event}))
            changed.notify_all()

fifo = lambda drone, id, stream: f"{args.state}/{drone}.{id}.{stream}"
key_of = lambda env: (env["JETWAY_DRONE"], env["SESSION_BACKEND_ID"])
keys = lambda ask: [(ask["drone"], id) for id in ask["backend_ids"] or []]

def labelled():
    """The processes that have our mark in their environment, which children inherit."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # else it has ended, or is another user's
            env = dict(v.split("=", 1) for v in file.read().decode(errors="replace").split("\0") if "=" in v)
            if env.get("RUNTIME_STATE") == args.state:
                yield int(pid), env

def recover():
    """Takes over what runs. What is not found then does not run: it is in no listing."""
    for pid, env in labelled():
        if os.getsid(pid) == pid:
            os.killpg(pid, signal.SIGCONT)  # who knows what slept
            backends[key_of(env)] = Backend(*key_of(env), f"{env['HOST']}:{env['PORT']}", pid)

def program(ask):
    command = ask["executable"].get("command") or [""]
    path = os.path.realpath(os.path.join(args.root, command[0]))
    if not path.startswith(args.root + "/") or not os.access(path, os.X_OK):
        raise Refused(f"executable: command: there is no program {command[0]!r} below the runtime's root; install it, or name another")
    return [path, *command[1:]]

def free_port():
    for turn in itertools.islice(turns, 8000):  # so that each rests for a round
        with socket.socket() as probe:
            if probe.connect_ex((args.host, port := 24_000 + turn % 8000)):  # nobody listens
                return port
    raise Refused("the runtime has no free port")

def prepare(ask):
    program(ask)
    return {"ready": True}  # lines of {"progress": "…"} may come before it

def start(ask):
    drone, id = key = ask["drone"], ask["backend_id"]
    command = program(ask)
    with changed:
        if key in dead:
            raise Refused("it was ended before it was started")
        if key not in backends:
            port = free_port()
            env = {"PATH": "/usr/bin:/bin", **ask["executable"].get("env", {}), **ask["env"],
                   "HOST": args.host, "PORT": str(port), "RUNTIME_STATE": args.state}
            [os.mkfifo(fifo(drone, id, s), 0o600) for s in STREAMS]
            out, err = (os.open(fifo(drone, id, s), os.O_RDWR) for s in STREAMS)  # it never breaks
            try:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)
            except OSError as why:
                raise Refused(f"executable: {command[0]} cannot be started: {why}")
            finally:
                os.close(out), os.close(err)
            backends[key] = Backend(drone, id, f"{args.host}:{port}", child.pid, child)
        return backends[key].view()

def find(ask):
    with changed:
        return {"backends": [b.view(behind(ask)) for b in backends.values() if b.drone == ask["drone"] and b.id in (ask["backend_ids"] or [b.id])]}

def terminate(ask):
    running, hard = [], ask.get("hard")
    with changed:
        for key in keys(ask):
            if hard:
                dead.append(key)
            if key in backends and not backends[key].ended:
                running.append(key[1])
                print(f"{'hard' if hard else 'soft'} end of {key}", flush=True)
                with contextlib.suppress(ProcessLookupError):  # it has just ended, which is about to be told
                    signal.pidfd_send_signal(backends[key].pidfd, signal.SIGKILL if hard else signal.SIGTERM)
        turn(keys(ask), signal.SIGCONT)
    return {"running": running}

def turn(keys, how):  # stops and continues processes, with what is in their groups
    for b in filter(None, map(backends.get, keys)):
        if not b.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(b.pid, how)
            b.asleep = how == signal.SIGSTOP

def sleep(ask):
    with changed:
        turn(keys(ask), signal.SIGSTOP)
    return {}

def wake(ask):
    with changed:
        turn(keys(ask), signal.SIGCONT)
    return {}

def usage(ask):
    pid = backends[keys(ask)[0]].pid
    with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/statm") as statm:
        ticks, pages = sum(map(int, stat.read().rpartition(")")[2].split()[11:13])), int(statm.read().split()[1])
    return {"cpu_ns": ticks * 10**9 // os.sysconf("SC_CLK_TCK"), "mem_used": pages * os.sysconf("SC_PAGE_SIZE")}

def forget(ask):
    with changed:
        for key in keys(ask):
            if key in backends and backends[key].ended:
                os.close(backends.pop(key).pidfd)
                [os.unlink(fifo(*key, s)) for s in STREAMS]
    return {}

def behind(ask):  # the number up to which the drone has heard
    epoch, _, number = ask.get("after", "").partition("-")
    return int(number) if epoch == EPOCH else 0

def follow(ask, write):
    """The stream: what is kept behind the mark, then all that there is, then what happens."""
    seen, listed = behind(ask), False
    while True:
        with changed:
            if listed and not (events and events[-1][0] > seen):
                changed.wait(5)
            lines = [e for n, d, e in events if n > seen and d == ask["drone"]]
            seen = events[-1][0] if events else seen
            if not listed:
                lines += [b.view() for b in backends.values() if b.drone == ask["drone"]] + [{"listed": True, "sleeps": True}]
        listed = True
        write("".join(json.dumps(line) + "\n" for line in [*lines, {}]).encode())  # {}: it is there

class Handler(BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_POST(self):
        try:
            ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/events":
                self.answer(200)
                follow(ask, self.wfile.write)
            what = {"/v1/" + f.__name__: f for f in (prepare, start, find, terminate, usage, sleep, wake, forget)}.get(self.path)
            self.answer(200, what(ask)) if what else self.answer(501, {"error": f"there is no {self.path} here"})
        except Refused as why:
            self.answer(400, {"error": str(why)})
        except Exception as why:  # who asked has gone, or this server is wrong
            with contextlib.suppress(OSError):
                self.answer(500, {"error": repr(why)})
    def answer(self, status, *lines):
        self.send_response(status)
        self.end_headers()
        self.wfile.write("".join(json.dumps(line) + "\n" for line in lines).encode())

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads, request_queue_size = True, 1024
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A runtime for Jetway's drones, for reference.")
    for name, what in ("socket", "Unix socket to listen at"), ("root", "directory of the programs"), ("state", "directory of its own"):
        parser.add_argument("--" + name, required=True, type=os.path.realpath, help=what)
    parser.add_argument("--host", default="127.0.0.1", help="address that backends listen at")
    args = parser.parse_args()
    os.umask(0o077)
    os.makedirs(args.state, exist_ok=True)
    fcntl.flock(lock := open(args.state + "/lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    recover()
    os.path.exists(args.socket) and os.unlink(args.socket)
    Server(args.socket, Handler).serve_forever()
