package bus_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I6: a request of a lease, or of a link, is not lost with the worker to which it happens to go, which is gone without NATS' knowing. Found on
// ten hosts: after the loss of a worker's, heartbeats were lost for 12 s, by chance, and with them a session whose lease was 15 s.
func TestI6RequestIsAskedAgainWhereAWorkerIsGone(t *testing.T) {
	t.Parallel()
	nc := testkit.Conn(t, testkit.NATS(t).URL())
	subject := "test." + nats.NewInbox()
	var heard atomic.Int64
	_, err := nc.Subscribe(subject, func(msg *nats.Msg) {
		if heard.Add(1) == 3 { // the first two went to who is gone
			_ = msg.Respond([]byte(`{"backends":7}`))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for within := testkit.Patience / 200; ; within *= 2 { // longer where the machine is slow
		heard.Store(0)
		short, stop := context.WithTimeout(ctx, within)
		resp, err := bus.RequestAgain[messages.DrainResponse](short, nc, subject, messages.Empty{})
		stop()
		if err == nil {
			if resp.Backends != 7 {
				t.Errorf("the answer is %+v", resp)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("it was heard %d times: %v", heard.Load(), err)
		}
	}
	// An answer that refuses is one, too; and nobody waits for longer than was said.
	refuse := "test." + nats.NewInbox()
	if _, err := bus.RequestAgain[messages.DrainResponse](ctx, nc, refuse, messages.Empty{}); messages.KindOf(err) != messages.Unavailable {
		t.Errorf("where nobody answers: %v", err)
	}
	over, end := context.WithCancel(ctx)
	end()
	if _, err := bus.RequestAgain[messages.DrainResponse](over, nc, subject, messages.Empty{}); err == nil {
		t.Error("what is over is asked")
	}
}
