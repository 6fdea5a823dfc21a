// y-websocket's server, and a page with its client below whatever path the page has.
const { setupWSConnection } = require("y-websocket/bin/utils");
const { WebSocketServer } = require("ws");
const page = `<!doctype html><script type="module" src="y.client.js"></script>`;
const client = require("esbuild").buildSync({
  bundle: true, write: false, format: "esm", nodePaths: [process.env.NODE_PATH],
  stdin: {
    resolveDir: __dirname,
    contents: `
      import * as Y from "yjs";
      import { WebsocketProvider } from "y-websocket";
      const doc = new Y.Doc();
      new WebsocketProvider(new URL(".", location).href.replace(/^http/, "ws").replace(/[/]$/, ""), "room", doc, { disableBc: true });
      window.text = doc.getText("text");
    `,
  },
}).outputFiles[0].text;
const http = require("http").createServer((req, res) => {
  const script = req.url.endsWith("/y.client.js");
  res.setHeader("Content-Type", script ? "text/javascript" : "text/html");
  res.end(script ? client : page);
});
new WebSocketServer({ server: http }).on("connection", setupWSConnection);
http.listen(process.env.PORT, "127.0.0.1");
