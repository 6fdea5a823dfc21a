// Package proxy is the data path: it takes a browser's request for
// /<token>/…, finds out where the token leads, and forwards the request to that
// backend, WebSockets and streams included.
//
// It owns the HTTP server and the listener that it was given, the connections to
// backends, the routes that it remembers, and the count of who is connected. The
// NATS connection is its caller's, who drains it after [Proxy.Run] has returned.
//
// What holds here:
//
//   - No request reaches a backend without a route that a worker gave for its
//     token, and only through the host that the route names.
//   - What a backend reads in x-verified-* comes from the worker, never from
//     the client, in whatever spelling the client tries, trailers included.
//   - A remembered route is dropped when its token runs out or its backend ends;
//     an answer that crosses the event of the end on the bus is not remembered.
//     When events may have been missed ([Proxy.BusGap]) all routes are dropped.
//   - What is remembered is bounded in bytes, and no body is ever held whole (I8).
//   - A request for a backend that is not ready waits for the event, without
//     asking again and again.
//   - Every goroutine here is waited for by Run.
//
// The way of a request, file by file: handler.go, target.go (the path), host.go,
// routes.go and ask.go (where to), news.go and hold.go (waiting), forward.go and
// headers.go (there and back), page.go (refusals).
package proxy
