package drone_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestI3SpawnDeliveredTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	action := h.spawn("b-1", fake.Script{}.Executable())
	h.publish(messages.Encode(action))
	h.await("b-1", messages.Ready)
	h.publish(messages.Encode(action))
	h.settled()
	if n := len(rt.Live()); n != 1 {
		t.Fatalf("%d run", n)
	}

	// Nor is it run again after its end.
	h.terminate("b-1", false)
	h.end("b-1")
	h.publish(messages.Encode(action))
	h.terminate("b-1", true)
	h.settled()
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run after the end", n)
	}
	if got := h.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
}

func TestI3TerminateDeliveredBeforeItsSpawnRunsNothing(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.terminate("b-1", true)
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
	h.spawn("b-1", fake.Script{}.Executable())
	h.settled()
	if n := len(rt.Live()); n != 0 || len(h.await("b-1", messages.Terminated)) != 1 {
		t.Fatalf("%d run", n)
	}
}

func TestI3HardAfterSoftEscalatesAndSoftTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	h.await("b-1", messages.Ready)
	h.terminate("b-1", false)
	h.terminate("b-1", false)
	h.settled()
	if states := h.await("b-1", messages.Terminating); len(rt.Live()) != 1 || states[len(states)-1].Status != messages.Terminating {
		t.Fatalf("states %v", statusesOf(states))
	}
	h.terminate("b-1", true)
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonExternal || got.LastStatus != messages.HardTerminating {
		t.Fatalf("ended as %+v", got)
	}
}

func TestI1SpawnOfAnotherSessionOrTooLateIsRefusedAsLost(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-session", fake.Script{}.Executable(), func(s *messages.Spawn) { s.Session = "another" })
	h.spawn("b-late", fake.Script{}.Executable(), func(s *messages.Spawn) { s.Deadlines.SoftTerminateAtMS = 1 })
	h.spawn("b-never", fake.Script{}.Executable(), func(s *messages.Spawn) { s.Deadlines = messages.Deadlines{} })
	for _, id := range []string{"b-session", "b-late", "b-never"} {
		if got := h.end(id); got.Reason != messages.ReasonLost || got.Message == "" {
			t.Errorf("%s ended as %+v", id, got)
		}
	}
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run", n)
	}
}

func TestI8FullDroneRefuses(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t, func(c *drone.Config) { c.Capacity.MaxBackends = 1 })
	h.spawn("b-1", fake.Script{}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	if got := h.end("b-2"); got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, "it takes 1 backends at most") {
		t.Fatalf("ended as %+v", got)
	}
	h.terminate("b-1", true)
	h.end("b-1")
	h.spawn("b-3", fake.Script{}.Executable())
	h.await("b-3", messages.Ready)
	if n := len(rt.Live()); n != 1 {
		t.Fatalf("%d run", n)
	}
}

func TestMalformedActionsAreNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t)
	for _, bad := range []string{"", "no JSON", `{"type":"io.jetway.action.v1.spawn","backend_id":"b-*"}`, `{"type":"io.jetway.action.v1.terminate","backend_id":"b"}`} {
		h.publish([]byte(bad))
	}
	h.settled()
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
}

func TestConsumerThatWasDeletedIsOpenedAgain(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t)
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	if err := h.js.DeleteStream(t.Context(), messages.StreamActions); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the drone registers again and takes spawns", func() bool {
		return len(h.compared()) > 0 && h.unacknowledged() == 0 && h.lastHeartbeat().Ready
	})
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
	first, second := h.registered()[0], h.compared()[0]
	if first.Session != second.Session || !slices.Equal(second.Backends, []string{"b-1"}) {
		t.Fatalf("registered %+v, then %+v", first, second)
	}
}

// Of a start that is over before its states were reported only `ready` is.
func TestI5InstantStartsReportReadyOnly(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.down() // so all is over before anything is reported
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = fmt.Sprintf("b-%d", i)
		h.spawn(ids[i], fake.Script{}.Executable())
	}
	h.settled()
	testkit.Eventually(t, "all run", func() bool { return len(rt.Live()) == len(ids) })
	h.up()
	skipped := 0
	for _, id := range ids {
		states := h.await(id, messages.Ready)
		if len(states) == 1 {
			skipped++
		}
	}
	// One that runs may not have said so yet, and a message has room for a bounded number.
	if skipped < len(ids)/2 {
		t.Fatalf("only %d of %d starts were reported in one state", skipped, len(ids))
	}
}
