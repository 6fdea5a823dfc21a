// Package bus is Jetway's hold on NATS: the connection, request and reply, the
// streams and consumers, publishing with acknowledgement, and following a
// backend's events.
//
// It knows messages and nothing else of Jetway: neither the store nor the roles.
// A connection made here reconnects forever; who made it drains it. What is
// asked while no worker or no server answers comes back as a messages.Error of
// kind Unavailable, never as a bare NATS error.
package bus
