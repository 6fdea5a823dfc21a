// Package gateway is HTTP in front of the bus: for web tiers that have no NATS client, for those who come from Plane,
// and, as one page, for operators.
//
// It owns its listener, the streams that it serves, and its one subscription to the events of all backends. The NATS
// connection is its caller's, who drains it after [Gateway.Run] has returned.
//
// What holds here:
//
//   - The gateway holds no state that a request depends on: any gateway answers any request, also one that begins
//     where another gateway's answer or stream ended.
//   - It does nothing that a web tier could not do on the bus with the same credentials.
//   - All routes stand in one table (routes.go), with what a token must be allowed for each: none is served otherwise.
//   - A token of some namespaces learns nothing of others: what is not its own does not exist for it.
//   - Everything is bounded (I8): heads, bodies, streams, what waits for one that does not read. A stream that is
//     cut can be resumed where it was.
//   - No token is written to the log, nor stored in clear.
//
// The way of a request, file by file: gateway.go (the server), routes.go (the table), call.go (one request), auth.go,
// tokens.go and forward.go (who asks), v1.go and plane.go (what is done), reply.go (the answer). Streams: hub.go (one
// subscription, many watchers), stream.go (one watcher), events.go and logs.go (what is streamed). openapi.go describes
// the table; page.go shows the page.
package gateway
