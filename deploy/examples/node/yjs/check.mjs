// Two people who write into one document by the link of the web tier's page, argument 1: what both see is printed.
import { WebsocketProvider } from "y-websocket";
import { WebSocket } from "ws";
import * as Y from "yjs";

const page = (await fetch(process.argv[2])).url;
const people = ["hello ", "world"].map((words) => {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(new URL("sync", page).href.replace(/^http/, "ws"), "text", doc, { WebSocketPolyfill: WebSocket, disableBc: true });
  provider.once("sync", () => doc.getText("text").insert(0, words));
  return doc.getText("text");
});
const done = () => people.every((text) => text.length === 11);
await new Promise((seen) => people.forEach((text) => text.observe(() => done() && seen())));
if (people[0].toString() !== people[1].toString()) throw new Error("they see different texts");
console.log(people[0].toString().length);
process.exit(0);
