#!/usr/bin/env node
// The backend: one process for each document. It serves the editor's page, and y-websocket's protocol on any path.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { WebSocketServer } from "ws";

const { setupWSConnection } = createRequire(import.meta.url)("y-websocket/bin/utils");
const name = process.env.SESSION_BACKEND_KEY ?? "document";
const client = readFileSync(new URL("client.js", import.meta.url));
const page = `<!doctype html><meta charset="utf-8"><title>Document</title><textarea rows="20" cols="80"></textarea><script type="module" src="client.js"></script>`;

const server = createServer((request, response) => {
  const script = request.url.endsWith("/client.js");
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html; charset=utf-8");
  response.end(script ? client : page);
});
// This is the only process that owns the document, so it may load it here, and save it after each change.
new WebSocketServer({ server }).on("connection", (socket, request) => setupWSConnection(socket, request, { docName: name }));
server.listen(process.env.PORT ?? 8080, process.env.HOST ?? "127.0.0.1");

process.on("SIGTERM", () => process.exit(0));
