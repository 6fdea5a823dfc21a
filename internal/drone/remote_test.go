package drone_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// remote is a runtime that may be away.
type remote struct {
	*adopting
	mu      sync.Mutex
	why     error
	changed chan struct{}
}

var _ runtime.Remote = (*remote)(nil)

func (r *remote) Away() (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed, r.why
}

func (r *remote) set(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.why, r.changed = why, make(chan struct{})
}

// The demand: while who runs the backends is away the drone says so at once, what runs goes on, and a
// spawn is left to another drone.
func TestWhoRunsTheBackendsIsAway(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	h.set(func() { h.everyMS = testkit.Patience.Milliseconds() }) // so a heartbeat is not due
	rt := &remote{adopting: newFakeMachine().runtime(), changed: make(chan struct{})}
	start(t, server.URL(), rt).awaitReady()
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	rt.set(errors.New("the engine room is empty"))
	testkit.Eventually(t, "the workers hear why", func() bool {
		last := h.lastHeartbeat()
		return !last.Ready && last.NotReady == "the engine room is empty"
	})
	h.spawn("b-2", fake.Script{}.Executable())
	if got := h.end("b-2"); !strings.Contains(got.Message, "the engine room is empty") {
		t.Errorf("ended as %+v", got)
	}
	h.set(func() {
		if !h.refused["b-2"] {
			t.Error("it may not be placed elsewhere")
		}
	})
	rt.set(nil)
	testkit.Eventually(t, "the workers hear of it", func() bool { return h.lastHeartbeat().Ready })
	h.spawn("b-3", fake.Script{}.Executable())
	h.await("b-3", messages.Ready)
}

// unsure is a runtime that cannot tell whether it has started something, until it is closed.
type unsure struct {
	*adopting
	asked, closed chan struct{}
}

func (s *unsure) Start(context.Context, runtime.Spec) (runtime.Instance, error) {
	close(s.asked)
	<-s.closed
	return nil, errors.New("closed")
}

// I1: an agent is told to stop while its runtime cannot tell whether it has started something. It
// stops, and does not say that it has not: the next run finds out.
func TestI1AnAgentStopsWhileAStartIsUnsure(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	machine, data := newFakeMachine(), t.TempDir()
	rt := &unsure{adopting: machine.runtime(), asked: make(chan struct{}), closed: make(chan struct{})}
	defer close(rt.closed)
	here := func(c *drone.Config) { c.DataDir = data }
	a := start(t, server.URL(), rt, here)
	a.awaitReady()
	h.spawn("b-1", fake.Script{}.Executable())
	testkit.Receive(t, rt.asked, "the start")
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	h.set(func() {
		for _, state := range h.states["b-1"] {
			if state.Status == messages.Terminated {
				t.Errorf("it is held to have ended: %+v", state)
			}
		}
	})
	start(t, server.URL(), machine.runtime(), here).awaitReady()
	h.end("b-1") // the machine knows nothing of it
}
