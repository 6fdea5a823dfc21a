package drone

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
)

// An action that was delivered before the session was over is not taken after that: it has no
// lease to run under, and another agent may have the name.
func TestI1NothingIsTakenBeforeASessionIsRegistered(t *testing.T) {
	t.Parallel()
	rt := fake.New()
	defer rt.Close()
	a := newAgent(Config{Name: "dr-a", Cluster: "a"}.withDefaults(), &identity.Identity{}, nil, rt)
	never := messages.Deadlines{SoftTerminateAtMS: never, HardTerminateAtMS: never}
	for _, session := range []string{a.session.id, "another"} {
		if a.takes(t.Context(), &nats.Msg{}, &messages.Action{
			Type: messages.TypeSpawn, ID: "b.spawn", BackendID: "b",
			Spawn: &messages.Spawn{Session: session, Key: messages.Key{Name: "k"}, FencingToken: 1, Deadlines: never, Executable: []byte("{}")},
		}, true) {
			t.Error("it is acknowledged")
		}
	}
	if a.holds() != 0 || a.ended.has("b") || a.reports.unanswered() != 0 || len(a.session.unsure) != 0 {
		t.Fatalf("%d held, %d to report, %d to acknowledge", a.holds(), a.reports.unanswered(), len(a.session.unsure))
	}
}

// A session that is over takes nothing along but the interval.
func TestI1SessionBeginsWithoutALease(t *testing.T) {
	t.Parallel()
	rt := fake.New()
	defer rt.Close()
	a := newAgent(Config{Name: "dr-a", Cluster: "a"}.withDefaults(), &identity.Identity{}, nil, rt)
	a.known.Store(true)
	a.session.lease.renew(messages.Deadlines{SoftTerminateAtMS: 10, HardTerminateAtMS: 20})
	h := &held{id: "b", lease: a.session.lease, backend: backend{status: messages.Ready}}
	a.backends["b"] = h
	before := a.session
	a.needSession("yet another")
	if a.session.id != before.id {
		t.Fatal("it gave up a session that is not over")
	}
	a.needSession(before.id)
	if a.known.Load() || a.session.id == before.id || *a.session.lease != (lease{}) || *h.lease != (lease{10, 20}) {
		t.Fatalf("%+v, and the backend has %+v", a.session, h.lease)
	}
	// The answer to a registration renews what it named.
	a.mu.Lock()
	defer a.mu.Unlock()
	err := errors.Join(
		a.settleLocked(messages.Renewal{Deadlines: messages.Deadlines{SoftTerminateAtMS: 30, HardTerminateAtMS: 40}}, []string{"b"}),
		a.settleLocked(messages.Renewal{Deadlines: messages.Deadlines{SoftTerminateAtMS: 29, HardTerminateAtMS: 39}}, nil)) // an answer that came late
	if err != nil {
		t.Fatal(err)
	}
	if *h.lease != (lease{30, 40}) {
		t.Fatalf("the backend has %+v", h.lease)
	}
}
