package drone_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func empty(rt *fake.Runtime) func() bool { return func() bool { return len(rt.Live()) == 0 } }

func TestI1KilledPastTheHardDeadlineWhileNATSIsCut(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	h := newHub(t, server.URL())
	h.set(func() { h.softMS, h.hardMS = 800, 1000 })
	way := testkit.NewFaultProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	rt, _ := rigOn(t, "nats://"+way.Addr(), func(c *drone.Config) { c.Grace = time.Hour; c.ShutdownTimeout = time.Second })
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	// Renewals keep it: twice its deadline passes.
	first := h.lastHeartbeat().DroneTimeMS
	testkit.Eventually(t, "it is renewed for long", func() bool { return h.lastHeartbeat().DroneTimeMS > first+2000 })
	if empty(rt)() {
		t.Fatal("ended although its lease was renewed")
	}

	way.Cut()
	cut := boottime.Now()
	testkit.Eventually(t, "it is killed", empty(rt))
	// Its deadline counts from the last renewal, and the keeper is no later than a nap.
	if took := boottime.Now() - cut; took > time.Second+boottime.MaxNap {
		t.Fatalf("killed %v after the cut", took)
	}
	way.Heal()
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonKeyExpired {
		t.Fatalf("ended as %+v", got)
	}
}

// I1: the soft deadline, while the workers are away or NATS itself is.
func TestI1KeyExpiredIsReportedWhenTheWorkersAreBack(t *testing.T) {
	t.Parallel()
	for what, away := range map[string]func(*hub, *testkit.FaultProxy) (back func()){
		"workers": func(h *hub, _ *testkit.FaultProxy) func() { h.down(); return h.up },
		"NATS":    func(_ *hub, way *testkit.FaultProxy) func() { way.Cut(); return way.Heal },
		"silence": func(_ *hub, way *testkit.FaultProxy) func() { way.Stall(); return way.Heal },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := testkit.NATS(t)
			h := newHub(t, server.URL())
			h.set(func() { h.softMS, h.hardMS = 600, 60_000 })
			way := testkit.NewFaultProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
			rt, _ := rigOn(t, "nats://"+way.Addr())
			h.spawn("b-1", fake.Script{}.Executable())
			h.await("b-1", messages.Ready)
			back := away(h, way)
			testkit.Eventually(t, "it is ended", empty(rt))
			back()
			if got := h.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonKeyExpired {
				t.Fatalf("ended as %+v", got)
			}
			states := statusesOf(h.await("b-1", messages.Terminated))
			if !slices.Contains(states, messages.Terminating) {
				t.Fatalf("states %v", states)
			}
		})
	}
}

// A suspend is a jump of the boot-time clock that no timer of Go sees.
func TestI1KilledAfterASuspendPastTheDeadline(t *testing.T) {
	t.Parallel()
	var jump atomic.Int64
	clock := boottime.Clock(func() time.Duration { return boottime.Now() + time.Duration(jump.Load()) })
	h, rt, _ := rig(t, func(c *drone.Config) { c.Clock = clock })
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	h.down() // else a heartbeat right after could still renew it
	jump.Store(int64(time.Minute))
	testkit.Eventually(t, "it is killed", empty(rt))
	h.up()
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonKeyExpired {
		t.Fatalf("ended as %+v", got)
	}
}

func TestI1RefusedRenewalKillsAtOnce(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t, func(c *drone.Config) { c.Grace = time.Hour; c.ShutdownTimeout = time.Second })
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.await("b-2", messages.Ready)
	h.set(func() { h.lost["b-1"] = true })
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonLost {
		t.Fatalf("ended as %+v", got)
	}
	if live := rt.Live(); len(live) != 1 || live[0].BackendID() != "b-2" {
		t.Fatalf("%d run", len(live))
	}
}

func TestUnknownSessionBeginsANewOneWithWhatRuns(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.set(func() { h.session = "superseded"; h.lost["b-1"] = true })
	testkit.Eventually(t, "the drone registers again", func() bool { return len(h.registered()) > 1 })
	first, second := h.registered()[0], h.registered()[1]
	if first.Session == second.Session || !slices.Equal(second.Backends, []string{"b-1"}) {
		t.Fatalf("registered %+v, then %+v", first, second)
	}
	// The answer to the registration named it as lost.
	h.end("b-1")
	if !empty(rt)() {
		t.Fatal("a lost backend runs on")
	}
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
}

func TestNATSServerThatLostItsDataIsUsedAgain(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	h := newHub(t, server.URL())
	rt := fake.New()
	start(t, server.URL(), rt).awaitReady()
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	server.Stop()
	again, err := natsd.Start(natsd.Config{Port: portOf(t, server.URL()), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	before := len(h.registered())
	testkit.Eventually(t, "the drone registers again and takes spawns", func() bool {
		return len(h.registered()) > before && h.lastHeartbeat().Ready
	})
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
	if len(rt.Live()) != 2 {
		t.Fatalf("%d run", len(rt.Live()))
	}
}
