package bus

import (
	"context"
	"iter"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// What follows is the public client's, for those that have a connection.

// DefaultTimeout is how long a request waits when its context does not say.
const DefaultTimeout = client.DefaultTimeout

// Request is [client.Request].
func Request[Resp any](ctx context.Context, nc *nats.Conn, subject string, req any) (Resp, error) {
	return client.Request[Resp](ctx, nc, subject, req)
}

// RequestRaw is [client.RequestRaw].
func RequestRaw(ctx context.Context, nc *nats.Conn, subject string, payload []byte) ([]byte, error) {
	return client.RequestRaw(ctx, nc, subject, payload)
}

// RequestMsg is [client.RequestMsg].
func RequestMsg(ctx context.Context, nc *nats.Conn, msg *nats.Msg) ([]byte, error) {
	return client.RequestMsg(ctx, nc, msg)
}

// Watch is [client.Client.Watch].
func Watch(ctx context.Context, nc *nats.Conn, backend string) iter.Seq2[messages.StateEvent, error] {
	return client.New(nc).Watch(ctx, backend)
}

// WatchAll is [client.Client.WatchAll].
func WatchAll(ctx context.Context, nc *nats.Conn) iter.Seq2[messages.StateEvent, error] {
	return client.New(nc).WatchAll(ctx)
}

// History is [client.Client.History].
func History(ctx context.Context, nc *nats.Conn, backend string) ([]messages.StateEvent, error) {
	return client.New(nc).History(ctx, backend)
}

// Logs says which of a backend's output lines are wanted.
type Logs = client.Logs

// Lines is [client.Client.Logs].
func Lines(ctx context.Context, nc *nats.Conn, what Logs) iter.Seq2[messages.LogLine, error] {
	return client.New(nc).Logs(ctx, what)
}
