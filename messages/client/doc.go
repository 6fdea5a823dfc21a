// Package client speaks Jetway's protocol over nats.go: for web tiers and tools in Go, and for Jetway's own commands.
//
// [Connect] or [New] gives a [Client]; its methods are the requests of messages/PROTOCOL.md, and iterators that follow
// backends and their output without gaps.
//
// What a worker refuses is a *messages.Error, which errors.As finds and whose Kind a program branches on; [messages.KindOf] gives
// it at once. So is what did not come to a worker, of the kind Unavailable: nobody answers, or NATS is away. Otherwise the
// error is that of the context. A request's deadline is its context's, and the worker is told of it.
//
// The package knows messages and nothing else of Jetway. It starts no goroutine of its own; what an iterator holds ends with its loop.
package client
