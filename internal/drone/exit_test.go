package drone_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func draining(c *drone.Config) { c.OnExit = drone.Drain }

func TestDrainOnExitWaitsForTheLastBackend(t *testing.T) {
	t.Parallel()
	h, rt, a := rig(t, draining)
	for _, id := range []string{"b-1", "b-2"} {
		h.spawn(id, fake.Script{}.Executable())
		h.await(id, messages.Ready)
	}
	a.stop()
	testkit.Eventually(t, "the workers hear of it", func() bool { return !h.lastHeartbeat().Ready })
	h.spawn("b-3", fake.Script{}.Executable())
	if got := h.end("b-3"); got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, "shutting down") {
		t.Fatalf("ended as %+v", got)
	}
	h.set(func() {
		if !h.refused["b-3"] {
			t.Error("what it has not taken may not be placed elsewhere")
		}
	})
	h.terminate("b-1", false)
	h.end("b-1")
	// Leases are kept as long as it takes.
	before := h.lastHeartbeat().DroneTimeMS
	testkit.Eventually(t, "it is renewed", func() bool {
		last := h.lastHeartbeat()
		return last.DroneTimeMS > before+200 && last.Load.Backends == 1
	})
	select {
	case err := <-a.result:
		t.Fatalf("the agent ended with %d left: %v", len(rt.Live()), err)
	default:
	}
	h.terminate("b-2", false)
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if got := h.end("b-2"); got.Kind != messages.Soft {
		t.Fatalf("ended as %+v", got)
	}
}

func TestDrainThatTakesTooLongEndsThem(t *testing.T) {
	t.Parallel()
	h, rt, a := rig(t, draining, func(c *drone.Config) { c.DrainTimeout, c.Grace = time.Millisecond, time.Millisecond })
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonExternal || len(rt.Live()) != 0 {
		t.Fatalf("ended as %+v", got)
	}
}

func TestSecondSignalCutsADrainShort(t *testing.T) {
	t.Parallel()
	hurry := make(chan struct{})
	var now hands
	h, rt, a := rig(t, draining, now.is, func(c *drone.Config) { c.Hurry = hurry })
	for _, id := range []string{"b-1", "b-2"} {
		h.spawn(id, fake.Script{IgnoreTerm: id == "b-2"}.Executable())
		h.await(id, messages.Ready)
	}
	a.stop()
	close(hurry)
	h.end("b-1")
	h.await("b-2", messages.Terminating)
	now.move(grace) // less of it is left
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	for id, kind := range map[string]messages.TerminationKind{"b-1": messages.Soft, "b-2": messages.Hard} {
		if got := h.end(id); got.Kind != kind {
			t.Errorf("%s ended as %+v", id, got)
		}
	}
	if len(rt.Live()) != 0 {
		t.Fatal("it runs on")
	}
}

func TestSecondSignalKillsWhatIsBeingEnded(t *testing.T) {
	t.Parallel()
	hurry := make(chan struct{})
	h, rt, a := rig(t, func(c *drone.Config) {
		c.Hurry, c.OnExit, c.ShutdownTimeout = hurry, drone.End, 2*time.Hour
	})
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	a.stop()
	h.await("b-1", messages.Terminating)
	close(hurry)
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if got := h.end("b-1"); got.Kind != messages.Hard || len(rt.Live()) != 0 {
		t.Fatalf("ended as %+v", got)
	}
}

// Of what cannot be taken over again nothing is left running.
func TestI1WithoutADataDirectoryNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.run(func(c *drone.Config) { c.DataDir = "" })
	a.awaitReady()
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Ready)
	left(t, a)
	if got := s.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
	s.lives()
}
