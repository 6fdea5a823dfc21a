package drone_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// renewed waits until the drone's lease was renewed at its present time, and the drone knows it: it
// sends its next heartbeat only once it has taken the reply to the last.
func (h *hub) renewed(now *hands) {
	h.t.Helper()
	said := now.clock().Milliseconds()
	testkit.Eventually(h.t, "the lease is renewed", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := len(h.heartbeats)
		return n > 1 && h.heartbeats[n-2].DroneTimeMS >= said
	})
}

// One lease keeps all that a session holds, but what is sealed ends when it would have ended
// without the renewals since.
func TestI1SealedBackendKeepsItsDeadlineWhileOthersAreRenewed(t *testing.T) {
	t.Parallel()
	var now hands
	h, rt, _ := rig(t, now.is)
	for _, id := range []string{"b-1", "b-2", "b-3"} {
		h.spawn(id, fake.Script{IgnoreTerm: id == "b-2"}.Executable())
		h.await(id, messages.Ready)
	}
	h.set(func() { h.sealed["b-1"], h.sealed["b-2"] = true, true })
	h.renewed(&now)
	now.move(soft - 5*time.Minute)
	h.renewed(&now)
	if n := len(rt.Live()); n != 3 {
		t.Fatalf("%d run before the deadline", n)
	}
	now.move(5 * time.Minute)
	if got := h.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonKeyExpired {
		t.Fatalf("ended as %+v", got)
	}
	h.renewed(&now)
	if got := ids(rt.Live()); !slices.Equal(got, []string{"b-2", "b-3"}) {
		t.Fatalf("%v run", got)
	}
	now.move(hard - soft)
	if got := h.end("b-2"); got.Kind != messages.Hard {
		t.Fatalf("ended as %+v", got)
	}
	// What seals it may be told no more, once it is over elsewhere.
	h.set(func() { clear(h.sealed) })
	now.move(soft / 2)
	h.renewed(&now)
	if got := ids(rt.Live()); !slices.Equal(got, []string{"b-3"}) {
		t.Fatalf("%v run", got)
	}
}

// A backend stays sealed through a comparison, and in a session that follows.
func TestI1SealedBackendStaysSealed(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(*hub){
		"when it is compared": func(*hub) {}, // which it is now and then
		"in the next session": func(h *hub) { h.session = "superseded" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var now hands
			h, _, _ := rig(t, now.is)
			h.spawn("b-1", fake.Script{}.Executable())
			h.await("b-1", messages.Ready)
			h.set(func() { h.sealed["b-1"] = true })
			h.renewed(&now)
			before := len(h.registered()) + len(h.compared())
			now.move(soft / 2)
			h.set(func() { register(h) })
			testkit.Eventually(t, "the drone registers", func() bool { return len(h.registered())+len(h.compared()) > before })
			now.move(soft / 2)
			if got := h.end("b-1"); got.Reason != messages.ReasonKeyExpired {
				t.Fatalf("ended as %+v", got)
			}
		})
	}
}

func TestI1SpawnOfWhatIsSealedIsNotStarted(t *testing.T) {
	t.Parallel()
	var now hands
	h, rt, _ := rig(t, now.is)
	h.set(func() { h.sealed["b-1"] = true })
	// The first may have been answered before; the agent sends the third when it has heard the answer to the second.
	for range 3 {
		h.renewed(&now)
		now.move(time.Second)
	}
	h.spawn("b-1", fake.Script{}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
	h.settled()
	if got := ids(rt.Live()); !slices.Equal(got, []string{"b-2"}) {
		t.Fatalf("%v run", got)
	}
}

// A spawn lives as long as its session's lease, whenever it was placed.
func TestI1SpawnHasTheLeaseOfItsSession(t *testing.T) {
	t.Parallel()
	var now hands
	h, rt, _ := rig(t, now.is)
	h.spawn("b-1", fake.Script{}.Executable(), func(s *messages.Spawn) {
		s.Deadlines.SoftTerminateAtMS -= soft.Milliseconds() / 2
		s.Deadlines.HardTerminateAtMS += 100 * hard.Milliseconds()
	})
	h.await("b-1", messages.Ready)
	h.renewed(&now)
	h.down()
	now.move(soft - time.Minute)
	h.spawn("b-2", fake.Script{}.Executable(), func(s *messages.Spawn) {
		s.Deadlines.SoftTerminateAtMS += hard.Milliseconds()
		s.Deadlines.HardTerminateAtMS += hard.Milliseconds()
	})
	testkit.Eventually(t, "both run", func() bool { return len(rt.Live()) == 2 })
	now.move(time.Minute)
	testkit.Eventually(t, "neither does", empty(rt))
	h.up()
	for _, id := range []string{"b-1", "b-2"} {
		if got := h.end(id); got.Reason != messages.ReasonKeyExpired {
			t.Errorf("%s ended as %+v", id, got)
		}
	}
}

// JetStream is away and core NATS is not: no registration gets through.
func TestI1HeartbeatsDoNotWaitForRegistrations(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]*messages.Error{
		"that are refused": messages.Errorf(messages.Unavailable, "no JetStream"), "that nobody answers": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var now hands
			h, rt, _ := rig(t, now.is)
			h.spawn("b-1", fake.Script{}.Executable())
			h.await("b-1", messages.Ready)
			h.set(func() { h.refusing = answer })
			if err := h.js.DeleteStream(t.Context(), messages.StreamActions); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the workers hear that it takes no spawns", func() bool { return !h.lastHeartbeat().Ready })
			testkit.Eventually(t, "it tries to register", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return h.unheard > 1
			})
			for range 12 {
				now.move(hard / 10)
				h.renewed(&now)
			}
			if len(rt.Live()) != 1 {
				t.Fatal("it was ended although its lease was renewed")
			}
			before := len(h.compared())
			h.set(func() { h.refusing = nil })
			testkit.Eventually(t, "it takes spawns again", func() bool { return len(h.compared()) > before && h.lastHeartbeat().Ready })
			h.spawn("b-2", fake.Script{}.Executable())
			h.await("b-2", messages.Ready)
		})
	}
}

// I1: what the database does not know any more is found out by comparing, and killed at once.
func TestI1AllThatIsHeldIsComparedNowAndThen(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	for _, id := range []string{"b-1", "b-2"} {
		h.spawn(id, fake.Script{IgnoreTerm: id == "b-1"}.Executable())
		h.await(id, messages.Ready)
	}
	h.set(func() { h.lost["b-1"] = true }) // and no heartbeat says so
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonLost {
		t.Fatalf("ended as %+v", got)
	}
	if got := ids(rt.Live()); !slices.Equal(got, []string{"b-2"}) {
		t.Fatalf("%v run", got)
	}
	first, again := h.registered(), h.compared()
	if len(first) != 1 || len(again) == 0 || again[0].Session != first[0].Session {
		t.Fatalf("registered %+v, then %+v", first, again)
	}
}

// A drone takes more than a beat for nothing: the workers place by what it said last.
func TestWorkersHearSoonOfManyMoreBackendsOrFewer(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	h.set(func() { h.everyMS = time.Hour.Milliseconds() })
	rigOn(t, server.URL(), func(c *drone.Config) { c.Capacity.MaxBackends = 1000 })
	const many = 40
	for i := range many {
		h.spawnAsync("b-"+strings.Repeat("x", i+1), fake.Script{}.Executable())
	}
	testkit.Eventually(t, "they are heard of", func() bool { return h.lastHeartbeat().Load.Backends > many-16 })
	for i := range many {
		h.terminate("b-"+strings.Repeat("x", i+1), true)
	}
	testkit.Eventually(t, "their end is", func() bool { return h.lastHeartbeat().Load.Backends < 16 })
}
