// What a program does with sessions, against the worker and the drone of NATS_URL. Run by go test ./messages/client.
import assert from "node:assert/strict";
import { connect, JetwayError } from "../dist/index.js";

const jetway = await connect({ servers: process.env.NATS_URL });
const key = { name: "doc" };
await assert.rejects(jetway.join(key), (err) => err instanceof JetwayError && err.kind === "KeyUnheldNoSpawnConfig" && err.code === 409 && err.id !== "");
const answer = await jetway.connect({ key, user: "ada", spawn_config: { id: "b-1", executable: { fake: { print: ["hello"] } } } });
assert.equal(answer.spawned, true);
assert.equal((await jetway.awaitStatus("b-1", "ready")).status, "ready");
assert.equal((await jetway.join(key)).backend_id, "b-1");
assert.deepEqual(await jetway.sleep("b-1"), { asleep: true, nap: 1 });
assert.equal((await jetway.status("b-1")).asleep, true);
assert.deepEqual(await jetway.wake("b-1"), { asleep: false, nap: 2 });
assert.deepEqual(await jetway.wake("b-1"), { asleep: false, nap: 2 });
await assert.rejects(jetway.sleep("never"), (err) => err instanceof JetwayError && err.kind === "NotFound");
for await (const line of jetway.logs("b-1", true)) {
  assert.equal(line.line, "hello");
  break;
}
assert.equal(await jetway.revoke({ backend_id: "b-1", user: "ada" }), 1);
for await (const drone of jetway.drones()) assert.equal(drone.drone, "dr-a");
const listed = [];
for await (const backend of jetway.backends({ limit: 1 })) listed.push(backend.backend_id);
assert.deepEqual(listed, ["b-1"]);

// Who watches from the start to the end sees each state once, in order, and what comes while it watches.
const seen = [];
for await (const event of jetway.watch("b-1")) {
  seen.push(event.number);
  if (event.status === "ready") await jetway.terminate("b-1");
}
assert.deepEqual(seen, [...new Set(seen)].sort((a, b) => a - b));
assert.equal(seen[0], 10);
assert.equal(seen.at(-1), 70);
assert.equal((await jetway.status("b-1")).termination_reason, "external");
await assert.rejects(jetway.sleep("b-1"), (err) => err instanceof JetwayError && err.kind === "CannotSleep" && err.code === 409);
const stopped = AbortSignal.timeout(50);
await assert.rejects(async () => { for await (const _ of jetway.watch("never", stopped)); });
await jetway.close();
console.log("the life of a backend: ok");
