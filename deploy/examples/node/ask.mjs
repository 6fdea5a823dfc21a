#!/usr/bin/env node
// A web tier in Node.js: ask.mjs KEY PROGRAM USER prints the link for a user. It takes `npm install @nats-io/transport-node`.
import { connect } from "@nats-io/transport-node";

async function link(nc, key, program, user) {
  const ask = { key: { name: key }, spawn_config: { executable: { command: [program] } }, user };
  const reply = await nc.request("jetway.ctl.connect", JSON.stringify(ask), { timeout: 10_000 });
  if (reply.headers?.get("Nats-Service-Error")) throw new Error(reply.json().message);
  return reply.json().url;
}

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
console.log(await link(nc, ...process.argv.slice(2, 5)));
await nc.close();
