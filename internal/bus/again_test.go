package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// I6: a request of a lease is not lost with the worker to which it happens to go, which is gone without NATS' knowing. Found on
// ten hosts: after the loss of a worker's, heartbeats were lost for 12 s, by chance, and with them a session whose lease was 15 s.
func TestI6RequestIsAskedAgainWhereAWorkerIsGone(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	subject := "test." + nats.NewInbox()
	heard := make(chan struct{}, 64)
	_, err := nc.Subscribe(subject, func(msg *nats.Msg) {
		heard <- struct{}{}
		if len(heard) == 2 { // the first went to who is gone
			_ = msg.Respond([]byte(`{"backends":7}`))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	resp, err := bus.RequestAgain[messages.DrainResponse](ctx, nc, subject, messages.Empty{})
	if err != nil || resp.Backends != 7 {
		t.Fatalf("heard %d times, the answer is %+v, %v", len(heard), resp, err)
	}
	// An answer that refuses is one, too; and nobody waits for longer than was said.
	if _, err := bus.RequestAgain[messages.DrainResponse](ctx, nc, "test."+nats.NewInbox(), messages.Empty{}); messages.KindOf(err) != messages.Unavailable {
		t.Errorf("where nobody listens: %v", err)
	}
	over, end := context.WithTimeout(ctx, time.Millisecond)
	defer end()
	if _, err := bus.RequestAgain[messages.DrainResponse](over, nc, subject, messages.Empty{}); messages.KindOf(err) != messages.Unavailable {
		t.Errorf("where nobody answers: %v", err)
	}
}
