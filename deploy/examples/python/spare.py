#!/usr/bin/env python3
"""A backend in Python that can be started ahead, as a spare: it loads, waits, and is told by a POST which key it is for. Standard library only."""
import http.server
import json
import os
import threading

claim = threading.Lock()
# What a backend that is not a spare gets at once: a spare's key comes later.
me = None if os.environ.get("SESSION_BACKEND_SPARE") else {"key": os.environ.get("SESSION_BACKEND_KEY", "")}


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global me
        told = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/claim":
            return self.answer(404)
        with claim:
            if me is not None:  # visitors reach this path too: only the first claim counts
                return self.answer(409)
            me = json.loads(told)
        # Open the document, the database… here, within two seconds: the answer says that visitors may come.
        self.answer(204)

    def do_GET(self):
        key = me["key"] if me else "nobody's yet"
        self.answer(200, f"hello, this is {key}\n".encode())

    do_HEAD = do_GET  # how the drone asks whether it is ready to be claimed

    def answer(self, status, page=b""):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        if status != 204:
            self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)


where = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
http.server.ThreadingHTTPServer(where, Page).serve_forever()
