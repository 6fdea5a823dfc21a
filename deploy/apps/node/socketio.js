const http = require("http").createServer((req, res) => {
  res.setHeader("Content-Type", "text/html");
  res.end(`<!doctype html>
<script src="/socket.io/socket.io.js"></script>
<script>
  const socket = io();
  socket.on("connect", () => socket.emit("say", "hello", text => {
    socket.io.engine.transport.name === "websocket" ? window.said = text : socket.io.engine.once("upgrade", () => { window.said = text; });
  }));
</script>`);
});
const { Server } = require("socket.io");
new Server(http).on("connection", socket => socket.on("say", (text, answer) => answer(text)));
http.listen(process.env.PORT, "127.0.0.1");
