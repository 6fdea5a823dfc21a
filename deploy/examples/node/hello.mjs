#!/usr/bin/env node
// A backend in Node.js: one process for each key, which counts its visits. No packages.
import { createServer } from "node:http";

let visits = 0;

const server = createServer((request, response) => {
  if (request.method === "GET") visits++; // HEAD is how the drone asks whether it is ready
  const user = decodeURIComponent(request.headers["x-verified-username"] ?? "") || "stranger";
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`hello ${user}, this is ${process.env.SESSION_BACKEND_KEY}, visit ${visits}\n`);
});
server.listen(process.env.PORT ?? 8080, process.env.HOST ?? "127.0.0.1");

// SIGTERM asks the backend to end; whoever waits longer than the drone's grace is killed.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
