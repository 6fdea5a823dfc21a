package bus_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// awaitServer waits until a connection is back.
func awaitServer(t *testing.T, nc *nats.Conn) {
	t.Helper()
	testkit.Eventually(t, "the connection is back", func() bool { return nc.IsConnected() && nc.FlushTimeout(testkit.Patience) == nil })
}

// prepareStreams makes the streams that are missing, as a worker does.
func prepareStreams(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	testkit.Eventually(t, "JetStream works", func() bool {
		return bus.MakeMissingStreams(t.Context(), js, bus.Streams{}) == nil
	})
}

// truth answers for the state of one backend as a worker does; nobody before it is set.
type truth struct {
	mu    sync.Mutex
	state *messages.State
	asked int
}

func (tr *truth) set(state messages.State) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.state = &state
}

func (tr *truth) serve(t *testing.T, nc *nats.Conn) {
	t.Helper()
	_, err := nc.Subscribe(messages.SubjectStatus, func(m *nats.Msg) {
		req, err := messages.Decode[messages.StatusRequest](m.Data)
		if err != nil {
			t.Errorf("asked %q: %v", m.Data, err)
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.asked++
		if tr.state == nil {
			refusal := messages.Errorf(messages.NotFound, "there is no backend %q", req.BackendID)
			_ = m.RespondMsg(&nats.Msg{Data: messages.Encode(refusal), Header: nats.Header{
				messages.HeaderError: {refusal.Message}, messages.HeaderErrorCode: {refusal.CodeString()},
			}})
			return
		}
		_ = m.Respond(messages.Encode(messages.BackendInfo{BackendID: req.BackendID, State: *tr.state, Number: int(tr.state.Status), ChangedAt: time.Now()}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
}

// A backend whose events are gone has a state all the same.
func TestWatchAndHistoryOfABackendWhoseEventsAreGone(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	var tr truth
	tr.set(messages.State{Status: messages.Ready, Address: "h:1"})
	tr.serve(t, nc)
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Ready)
	publishStates(t, js, "b1", messages.Terminating)
	expect(t, seen, messages.Terminating)
	tr.set(messages.State{Status: messages.Terminated, Reason: messages.ReasonSwept})
	publishStates(t, js, "b1", messages.Terminated)
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)

	history, err := client.New(nc).History(testkit.Context(t), "ended-long-ago")
	if err != nil || len(history) != 1 || history[0].Reason != messages.ReasonSwept || history[0].BackendID != "ended-long-ago" {
		t.Errorf("the history is %+v, %v", history, err)
	}
	again, end := watching(t, nc, "ended-long-ago")
	expect(t, again, messages.Terminated)
	expectEnd(t, again, end)
}

// Nobody knows it yet, and nobody need.
func TestWatchOfABackendThatIsYetToCome(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	var tr truth
	tr.serve(t, nc)
	seen, end := watching(t, nc, "b1")
	testkit.Eventually(t, "a worker was asked", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.asked > 0
	})
	publishStates(t, js, "b1", messages.Scheduled, messages.Terminated)
	expect(t, seen, messages.Scheduled, messages.Terminated)
	expectEnd(t, seen, end)
}

// I5: a watch goes on across restarts of the server, and when it comes back without its
// data: with what is published again, and with what only Postgres knows.
func TestI5WatchAcrossRestartsAndLosses(t *testing.T) {
	t.Parallel()
	s := natstest.Own(t)
	wire := new(cable)
	nc, other := watchConn(t, s.URL(), nats.SetCustomDialer(wire)), watchConn(t, s.URL())
	js := natstest.JetStream(t, other)
	prepareStreams(t, js)
	var tr truth
	tr.set(messages.State{Status: messages.Loading})
	tr.serve(t, other)
	publishStates(t, js, "pad", messages.Statuses...) // so that places in the new stream are lower
	publishStates(t, js, "b1", messages.Scheduled, messages.Loading)
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Scheduled, messages.Loading)

	s.Restart()
	awaitServer(t, other)
	prepareStreams(t, js)
	publishStates(t, js, "b1", messages.Loading, messages.Starting)
	expect(t, seen, messages.Starting)

	// Published, and lost before the watcher heard of it.
	tr.set(messages.State{Status: messages.Waiting, Address: "h:1"})
	s.Replace()
	awaitServer(t, other)
	prepareStreams(t, js)
	expect(t, seen, messages.Waiting)

	// Published to the new server before the watcher is back, at places that it had passed.
	wire.cut.Store(true)
	s.Replace()
	awaitServer(t, other)
	prepareStreams(t, js)
	tr.set(messages.State{Status: messages.Terminating})
	publishStates(t, js, "b1", messages.Ready, messages.Terminating)
	wire.cut.Store(false)
	expect(t, seen, messages.Ready, messages.Terminating)

	s.Replace()
	awaitServer(t, other)
	prepareStreams(t, js)
	tr.set(messages.State{Status: messages.Terminated})
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)
}

// A stream of actions that an earlier version made on disk is made anew in memory;
// the others keep what they hold.
func TestStreamOfActionsOnDiskIsMadeAnew(t *testing.T) {
	t.Parallel()
	nc := watchConn(t, natstest.Server(t).URL())
	js := natstest.JetStream(t, nc)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: messages.StreamActions, Subjects: []string{messages.SubjectAllActions},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, MaxAge: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.EnsureConsumer(t.Context(), js, "dr-a"); err != nil {
		t.Fatal(err)
	}
	// Who only mends leaves it alone.
	if err := bus.MakeMissingStreams(t.Context(), js, bus.Streams{}); err != nil {
		t.Fatal(err)
	}
	publishStates(t, js, "b1", messages.Scheduled)
	for range 2 {
		if err := bus.EnsureStreams(t.Context(), js, bus.Streams{}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), messages.StreamActions)
	if err != nil || stream.CachedInfo().Config.Storage != jetstream.MemoryStorage || stream.CachedInfo().State.Consumers != 0 {
		t.Fatalf("the stream is %+v, %v", stream.CachedInfo(), err)
	}
	if history, err := client.New(nc).History(testkit.Context(t), "b1"); err != nil || len(history) != 1 {
		t.Errorf("the history is %v, %v", history, err)
	}
}

// I5: what a worker knows, and neither the stream nor the subscription has, is given all the same: a replica that answers
// direct gets may lag behind, and an event pass before the subscription is known where it is published.
func TestI5WatchAsksAWorkerAlsoWhereTheStreamHasThePast(t *testing.T) {
	t.Parallel()
	url, nc, js := withStreams(t)
	var tr truth
	tr.set(messages.State{Status: messages.Ready})
	tr.serve(t, nc)
	publishStates(t, js, "b", messages.Scheduled, messages.Waiting)
	seen, end := watching(t, watchConn(t, url), "b")
	for _, want := range []messages.Status{messages.Scheduled, messages.Waiting, messages.Ready} {
		if got := testkit.Receive(t, seen, want.String()); got != want {
			t.Fatalf("it sees %s for %s", got, want)
		}
	}
	// When the event comes after all, it is none that was not seen.
	publishStates(t, js, "b", messages.Ready, messages.Terminated)
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)
}
