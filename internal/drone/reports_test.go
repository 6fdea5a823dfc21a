package drone_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestI5NoStateIsLostWhileTheWorkersAreAway(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.down()
	// The bus still delivers what the workers left behind.
	for i := range 50 {
		h.spawn(fmt.Sprintf("b-%d", i), fake.Script{PrepareFor: fake.Duration(time.Millisecond), Address: "127.0.0.1:1"}.Executable())
	}
	h.settled()
	testkit.Eventually(t, "all run", func() bool { return len(rt.Live()) == 50 })
	for i := range 25 {
		h.terminate(fmt.Sprintf("b-%d", i), i%2 == 0)
	}
	h.settled()
	testkit.Eventually(t, "half have ended", func() bool { return len(rt.Live()) == 25 })
	h.up()
	start := []messages.Status{messages.Loading, messages.Starting, messages.Waiting}
	for i := range 50 {
		want := start
		switch {
		case i >= 25:
		case i%2 == 0:
			want = append(slices.Clone(start), messages.HardTerminating, messages.Terminated)
		default:
			want = append(slices.Clone(start), messages.Terminating, messages.Terminated)
		}
		id := fmt.Sprintf("b-%d", i)
		if got := statusesOf(h.await(id, want[len(want)-1])); !slices.Equal(got, want) {
			t.Errorf("%s: states %v, want %v", id, got, want)
		}
	}
}

// What ended while the workers were away is named at the next registration, so that
// its real end can still be told.
func TestI5UnreportedEndSurvivesANewSession(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{ExitCode: 4}.Executable())
	h.await("b-1", messages.Ready)
	h.down()
	h.set(func() { h.session = "superseded" })
	_ = rt.Live()[0].Terminate(t.Context(), false)
	testkit.Eventually(t, "it has ended", empty(rt))
	h.up()
	if got := h.end("b-1"); got.ExitCode == nil || *got.ExitCode != 4 {
		t.Fatalf("ended as %+v", got)
	}
	if last := h.registered()[1]; !slices.Contains(last.Backends, "b-1") {
		t.Fatalf("registered %+v", last)
	}
}

func TestI1BackendThatIsNotTheDronesIsKilledAndItsReportsDropped(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.set(func() { h.disowned["b-1"] = true })
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
	testkit.Eventually(t, "only b-2 runs", func() bool { return len(rt.Live()) == 1 })
	h.terminate("b-2", false)
	h.end("b-2")
	// More than one refusal if an answer was lost, but none after a report that was taken.
	refusals := 0
	h.set(func() { refusals = h.refusals })
	h.spawn("b-3", fake.Script{}.Executable())
	h.await("b-3", messages.Ready)
	h.mu.Lock()
	defer h.mu.Unlock()
	if refusals == 0 || h.refusals != refusals || len(h.states["b-1"]) != 0 {
		t.Fatalf("%d refusals, then %d, states %v", refusals, h.refusals, h.states["b-1"])
	}
}

func TestReportThatNoWorkerTakesDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t)
	h.set(func() { h.bad["b-3"] = true })
	h.down()
	for i := range 6 {
		h.spawn(fmt.Sprintf("b-%d", i), fake.Script{}.Executable())
	}
	h.settled()
	h.up()
	for i := range 6 {
		if i != 3 {
			h.await(fmt.Sprintf("b-%d", i), messages.Ready)
		}
	}
}

func BenchmarkInstantSpawn(b *testing.B) {
	h, _, _ := rig(b)
	b.ResetTimer()
	for i := range b.N {
		id := fmt.Sprintf("b-%d", i)
		h.spawnAsync(id, fake.Script{}.Executable())
	}
	h.await(fmt.Sprintf("b-%d", b.N-1), messages.Ready)
}
