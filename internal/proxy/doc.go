// Package proxy is the data path: it takes a browser's request for
// /<token>/…, or one that shows its token in a cookie or as a bearer (origin.go), finds out where
// the token leads, and forwards the request to that backend, WebSockets and streams included.
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
//   - A cookie leads only to the backend whose host it was set for, which is that backend's alone,
//     and only where the backend's own page, or a link, has caused the request. No backend sees or sets it.
//   - No field that a backend sets, and no Referer, has an effect on another session that shares its
//     host, as far as a proxy can see to it (prefix.go).
//   - A WebSocket over HTTP/2 is an upgrade as any other from the handler on (tunnel.go), so each rule about upgrades holds of it.
//   - The backend gets each request in one framing only, said anew by the proxy. Where a
//     client's body was not read to its end, its connection ends with the response.
//   - No link leads to another's backend. A remembered route is dropped when its token runs out or is revoked,
//     or its backend ends; an answer that crosses such an event on the bus is not used. It does not hang on hearing
//     that: a route is used only for a bound from when a worker was asked for it ([Config.RouteTrust]), less than for what
//     ports rest, and when events may have been missed ([Proxy.BusGap]) only once it was asked for anew. One in use
//     is asked for in time, which is also how a worker learns that its token is in use.
//   - A revocation cuts what is open with the token. Who begins meanwhile is either found by
//     it or sees it: see heardRevoked.
//   - What is remembered, and who may wait, ask or connect, is bounded, by client and by backend too; no body is ever held
//     whole, and what is idle holds no buffer (I8).
//   - Who a client is, its connection says, and beyond that only proxies that are trusted (origin.go, spoken.go).
//   - A request for a backend that is not ready waits for the event, without
//     asking again and again.
//   - Whoever may wait for a backend to wake is told of: each byte to one where bytes count, and each arrival at one that was named with nobody there, or put
//     to sleep, is in a report at once (keepalive.go, pulse.go).
//   - Every goroutine here is waited for by Run.
//
// Requests and responses are passed on by a small engine on net/http's server (forward.go)
// instead of httputil.ReverseProxy and http.Transport, whose three goroutines a request
// cost more than the work itself: here a request, its response and its connection to the
// backend belong to one goroutine. Only a request's body has another one. Upgraded connections
// need none while they behave: loops carry them (loop_linux.go). Loops also carry plain requests from first to last byte
// (errand_linux.go), at a fourth of the cost: a GET or HEAD without a body on a connection without TLS, by a link that is known, to a backend
// that answers with a length. They hand all else on to net/http, with what they have read, and decide nothing themselves: so each
// rule about a request is in one place for both. What a loop takes for plain, net/http would take for the same (plain.go, fuzzed).
//
// Who closes what: a backend's connection belongs to the exchange that uses it, which gives
// it back (upstream.go) or closes it; a passage closes it in its stead when it is cut
// (passage.go). An upgraded connection, both ends of it, belongs to its two ways, the last of
// which to end closes it (splice.go).
//
// The way of a request, file by file: handler.go, target.go (the path), cookie.go (origin mode), host.go,
// door.go, strangers.go, routes.go and ask.go (where to), events.go, news.go and hold.go (waiting),
// forward.go, request.go, upload.go, relay.go, upgrade.go, tunnel.go (WebSockets over HTTP/2), splice.go, frames.go,
// loop_linux.go (there and back);
// plain.go, errand_linux.go, callees_linux.go, handon_linux.go, handed.go (the same without net/http, and on to it);
// page.go (refusals).
package proxy
