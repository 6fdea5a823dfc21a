#!/usr/bin/env node
// A backend in Node.js that can be started ahead, as a spare: it loads, waits, and is told by a POST which key it is for. No packages.
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

// What a backend that is not a spare gets at once: a spare's key comes later.
let me = process.env.SESSION_BACKEND_SPARE ? undefined : { key: process.env.SESSION_BACKEND_KEY };

const server = createServer(async (request, response) => {
  if (request.method === "POST" && request.url === "/claim") {
    const told = await json(request);
    if (me) return response.writeHead(409).end(); // visitors reach this path too: only the first claim counts
    me = told;
    // Open the document, the database… here, within two seconds: the answer says that visitors may come.
    return response.writeHead(204).end();
  }
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`hello, this is ${me?.key ?? "nobody's yet"}\n`); // HEAD is how the drone asks whether it is ready to be claimed
});
server.listen(process.env.PORT ?? 8080, process.env.HOST ?? "127.0.0.1");

process.on("SIGTERM", () => server.close(() => process.exit(0)));
