// Package bus is Jetway's hold on NATS: the connection, request and reply, the
// streams and consumers, and publishing with acknowledgement. Requests, and following a
// backend's events and lines, are those of the public package messages/client; [RequestAgain] asks so more than once.
//
// It knows messages and nothing else of Jetway: neither the store nor the roles.
// A connection made here reconnects forever; who made it drains it. What is
// asked while no worker or no server answers comes back as a messages.Error of
// kind Unavailable, never as a bare NATS error.
//
// A server may come back with nothing in it. Streams are made again by
// [MakeMissingStreams], and those who watch find out by themselves that a stream is
// another one, and ask a worker for what it does not have (I5). Nobody who watches costs
// the server a consumer or holds more than a bounded amount of memory (I8).
package bus
