package worker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// What a worker took when its bus is cut may get no reply, but never two; what it
// committed is published when the bus is back.
func TestI3I7BusCutUnderLoadLosesNothingCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := testkit.NewFaultProxy(t, strings.TrimPrefix(w.url, "nats://"))
	startWorker(t, w, "wo-a", options{url: "nats://" + link.Addr()})
	p := startPeer(t, w, "dr-a")
	inbox := nats.NewInbox()
	replies := make(chan *nats.Msg, 1000)
	_, err := w.nc.ChanSubscribe(inbox+".*", replies)
	must(t, err)
	for i := range 300 {
		must(t, w.nc.PublishMsg(&nats.Msg{
			Subject: messages.SubjectConnect, Reply: fmt.Sprintf("%s.%d", inbox, i),
			Data: messages.Encode(spawnKey(fmt.Sprintf("doc-%d", i))),
		}))
		if i == 100 {
			must(t, w.nc.FlushTimeout(testkit.Patience))
			testkit.Eventually(t, "a first commit", func() bool { return w.count("backend") > 0 })
			link.Cut()
		}
	}
	must(t, w.nc.FlushTimeout(testkit.Patience))
	link.Heal()
	testkit.Eventually(t, "the worker answers again", func() bool {
		_, err := w.nc.Request(messages.SubjectDrones, nil, againAfter)
		return err == nil
	})
	var committed []string
	testkit.Eventually(t, "every committed spawn at the drone", func() bool {
		rows, err := w.db.Query(t.Context(), "select id from backend")
		must(t, err)
		defer rows.Close()
		committed = committed[:0]
		for rows.Next() {
			var id string
			must(t, rows.Scan(&id))
			committed = append(committed, id)
		}
		for _, id := range committed {
			if len(p.seen(id)) == 0 {
				return false
			}
		}
		return true
	})
	for _, id := range committed {
		if got := numbers(t, w, id); len(got) != 1 || got[0] != messages.Scheduled {
			t.Errorf("the states of %s on the bus are %v", id, got)
		}
	}
	seen := make(map[string]bool)
	for len(replies) > 0 {
		msg := <-replies
		if seen[msg.Subject] {
			t.Errorf("two replies to one request: %s", msg.Data)
		}
		seen[msg.Subject] = true
	}
}
