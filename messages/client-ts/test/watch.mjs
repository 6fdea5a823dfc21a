// Watches each backend that a line names until it has reached a status, and says so. node watch.mjs URL STATUS
import { createInterface } from "node:readline";
import { connect } from "../dist/index.js";

const [servers, status] = process.argv.slice(2);
const jetway = await connect({ servers });
const watching = [];
for await (const backend of createInterface({ input: process.stdin })) {
  watching.push(jetway.awaitStatus(backend, status).then(() => console.log(backend)));
}
await Promise.all(watching);
await jetway.close();
