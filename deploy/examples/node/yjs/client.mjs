// What runs in the browser: a text area for a shared text. npm install bundles it as client.js.
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const doc = new Y.Doc();
const text = doc.getText("text");
// Below the page, whatever path that has: so it works in path mode and in origin mode.
new WebsocketProvider(new URL("sync", location).href.replace(/^http/, "ws"), "text", doc);

const area = document.querySelector("textarea");
area.oninput = () => {
  const before = text.toString(), now = area.value;
  let start = 0, end = 0;
  while (start < before.length && before[start] === now[start]) start++;
  while (end < Math.min(before.length, now.length) - start && before.at(-1 - end) === now.at(-1 - end)) end++;
  doc.transact(() => {
    text.delete(start, before.length - start - end);
    text.insert(start, now.slice(start, now.length - end));
  });
};
text.observe(() => { if (area.value !== text.toString()) area.value = text.toString(); });
