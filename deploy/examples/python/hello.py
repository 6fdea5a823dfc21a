#!/usr/bin/env python3
"""A backend in Python: one process for each key, which counts its visits. Standard library only."""
import http.server
import os
from urllib.parse import unquote

visits = 0


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global visits
        visits += self.command == "GET"
        user = unquote(self.headers.get("x-verified-username", "")) or "stranger"
        key = os.environ.get("SESSION_BACKEND_KEY", "")
        page = f"hello {user}, this is {key}, visit {visits}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    do_HEAD = do_GET  # how the drone asks whether it is ready


where = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
http.server.ThreadingHTTPServer(where, Page).serve_forever()
