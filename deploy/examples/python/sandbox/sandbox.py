#!/usr/bin/env python3
"""A sandbox for an agent: POST /run runs the Python code in the body, in a directory that lives as long as the sandbox. Standard library only."""
import http.server
import json
import os
import subprocess
import sys
import tempfile

LIMIT = 60  # seconds that one piece of code may take
MOST = 1 << 20  # bytes of code, and of output
home = tempfile.mkdtemp()


class Sandbox(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):  # how the drone asks whether it is ready
        self.answer(200, {})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if self.path != "/run" or length > MOST:
            self.close_connection = True  # the body is not read
            return self.answer(400, {"error": f"POST /run takes at most {MOST} bytes of Python"})
        code = self.rfile.read(length)
        try:
            done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, timeout=LIMIT, cwd=home)
        except subprocess.TimeoutExpired:
            return self.answer(200, {"error": f"it took longer than {LIMIT} s"})
        out, err = (o[:MOST].decode(errors="replace") for o in (done.stdout, done.stderr))
        self.answer(200, {"exit_code": done.returncode, "stdout": out, "stderr": err})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


where = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
http.server.ThreadingHTTPServer(where, Sandbox).serve_forever()
