package gateway_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// A page whose backends cannot be listed now, as while the database is away, lists them when they can, and does not say meanwhile that nothing runs.
func TestThePageListsAgainWhatCouldNotBeListed(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	nc := natstest.Conn(t, natstest.Server(t).URL())
	var up atomic.Bool
	asked := make(chan struct{}, 16)
	_, err := nc.Subscribe(messages.SubjectBackends, func(m *nats.Msg) {
		reply := nats.NewMsg(m.Reply)
		if up.Load() {
			reply.Data = messages.Encode(messages.BackendsResponse{Backends: []messages.BackendInfo{{
				BackendID: "b1", Key: messages.Key{Name: "doc"}, Drone: "dr-a", Cluster: "c", CreatedAt: time.Unix(1, 0), ChangedAt: time.Unix(1, 0), State: messages.State{Status: messages.Ready}, Number: 50,
			}}})
		} else {
			refused := messages.Errorf(messages.Unavailable, "Postgres cannot be reached")
			reply.Header.Set(messages.HeaderError, refused.Message)
			reply.Header.Set(messages.HeaderErrorCode, refused.CodeString())
			reply.Data = messages.Encode(refused)
		}
		_ = m.RespondMsg(reply)
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	must(t, err)
	_, err = nc.Subscribe(messages.SubjectDrones, answerWith(messages.DronesResponse{}))
	must(t, err)
	must(t, nc.FlushWithContext(testkit.Context(t)))
	f := startWithoutWorkers(t, nc.ConnectedUrl())
	p := openTab(t, f.url)
	p.sees(`document.getElementById("said").textContent.includes("Postgres cannot be reached")`)
	p.sees(`document.getElementById("rows").textContent.includes("Listing")`)
	for range 4 { // one is the server's, and two the script's own, when it begins
		testkit.Receive(t, asked, "a question for the backends")
	}
	up.Store(true)
	p.sees(`document.getElementById("row-b1") !== null`)
}
