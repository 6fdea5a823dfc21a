package drone_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func empty(rt *fake.Runtime) func() bool { return func() bool { return len(rt.Live()) == 0 } }

func TestI1KilledPastTheHardDeadlineWhileNATSIsCut(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	way := testkit.NewFaultProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	var now hands
	rt, _ := rigOn(t, "nats://"+way.Addr(), now.is)
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.await("b-2", messages.Ready)
	// Renewals keep them: more than their deadline passes, in steps of which many may go by without one.
	for range 12 {
		now.move(hard / 10)
		h.renewed(&now)
	}
	if len(rt.Live()) != 2 {
		t.Fatal("ended although its lease was renewed")
	}

	way.Cut()
	now.move(soft + time.Minute) // one step that was not renewed before does not take it past the hard one
	testkit.Eventually(t, "what is past its soft deadline is asked to end", func() bool { return len(rt.Live()) == 1 })
	if live := rt.Live()[0]; live.BackendID() != "b-1" {
		t.Fatal("b-1 was killed before its hard deadline")
	}
	now.move(hard - soft)
	testkit.Eventually(t, "it is killed", empty(rt))
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
			server := natstest.Server(t)
			h := newHub(t, server.URL())
			way := testkit.NewFaultProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
			var now hands
			rt, _ := rigOn(t, "nats://"+way.Addr(), now.is)
			h.spawn("b-1", fake.Script{}.Executable())
			h.await("b-1", messages.Ready)
			back := away(h, way)
			now.move(soft)
			testkit.Eventually(t, "it is ended", empty(rt))
			back()
			got := h.end("b-1")
			if got.Kind != messages.Soft || got.Reason != messages.ReasonKeyExpired {
				t.Fatalf("ended as %+v", got)
			}
			if got.Cause != messages.CauseUnrenewed || !strings.Contains(got.Words, "no worker has renewed it for ") {
				t.Errorf("why its lease was not renewed is said as %+v", got.Why)
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
	var now hands
	h, rt, _ := rig(t, now.is)
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	h.down() // else a heartbeat right after could still renew it
	now.move(hard)
	testkit.Eventually(t, "it is killed", empty(rt))
	h.up()
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonKeyExpired {
		t.Fatalf("ended as %+v", got)
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

// I5: a registration that is lost, or its answer, is made again, and then all is told.
func TestI5LostRegistrationOfANewSessionIsRepeated(t *testing.T) {
	t.Parallel()
	for name, heard := range map[string]bool{"the request is lost": false, "the answer is lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, rt, _ := rig(t)
			h.spawn("b-1", fake.Script{ExitCode: 4}.Executable())
			h.await("b-1", messages.Ready)
			h.set(func() { h.session, h.ignored, h.heard = "superseded", 2, heard })
			testkit.Eventually(t, "the drone registers again", func() bool { return len(h.registered()) > 1 })
			if second := h.registered()[1]; !slices.Equal(second.Backends, []string{"b-1"}) {
				t.Fatalf("registered %+v", second)
			}
			_ = rt.Live()[0].Terminate(t.Context(), false)
			if got := h.end("b-1"); got.ExitCode == nil || *got.ExitCode != 4 {
				t.Fatalf("ended as %+v", got)
			}
		})
	}
}

func TestNATSServerThatLostItsDataIsUsedAgain(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	rt := fake.New()
	start(t, server.URL(), rt).awaitReady()
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	before := len(h.compared())
	server.Stop()
	again, err := natsd.Start(natsd.Config{Port: portOf(t, server.URL()), StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	testkit.Eventually(t, "the drone registers again and takes spawns", func() bool {
		return len(h.compared()) > before && h.unacknowledged() == 0 && h.lastHeartbeat().Ready
	})
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
	if len(rt.Live()) != 2 {
		t.Fatalf("%d run", len(rt.Live()))
	}
}
