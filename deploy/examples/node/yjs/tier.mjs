#!/usr/bin/env node
// The web tier, with Express: /doc/NAME leads to the process that owns the document NAME.
import { connect } from "@nats-io/transport-node";
import express from "express";

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });

async function link(document, user) {
  const reply = await nc.request("jetway.ctl.connect", JSON.stringify({
    key: { namespace: "yjs", name: document },
    spawn_config: { executable: { command: [process.env.PROGRAM ?? "node/yjs/document.mjs"] }, max_idle_seconds: 300 },
    user,
  }), { timeout: 10_000 });
  if (reply.headers?.get("Nats-Service-Error")) throw new Error(reply.json().message);
  return reply.json().url;
}

const app = express();
app.get("/doc/:name", async (request, response) => {
  // Here your login says who it is, and whether this user may open the document.
  response.redirect(303, await link(request.params.name, request.query.user));
});
const listening = app.listen(process.env.TIER_PORT ?? 3000, "127.0.0.1", () => console.log(`http://127.0.0.1:${listening.address().port}/doc/one`));
