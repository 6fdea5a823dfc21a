package cli

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// insist asks the workers of a whole stack, and again while they cannot reach their database in time or have too much to do, as a
// slow machine has it and as their refusals tell their askers to do.
func insist[T any](t testing.TB, nc *nats.Conn, subject string, request any) (answer T, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	for {
		answer, err = client.Request[T](ctx, nc, subject, request)
		if kind := messages.KindOf(err); err == nil || ctx.Err() != nil || kind != messages.Unavailable && kind != messages.Overloaded {
			return answer, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
