package lifecycle_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/messages"
)

func anyEvent() *rapid.Generator[lifecycle.Event] {
	return rapid.Custom(func(t *rapid.T) lifecycle.Event {
		switch rapid.IntRange(0, 9).Draw(t, "event") {
		case 0:
			return lifecycle.Lost{}
		case 1, 2:
			return lifecycle.TerminateAsked{Hard: rapid.Bool().Draw(t, "hard"), Reason: messages.ReasonExternal}
		default:
			return lifecycle.Reported{State: messages.State{Status: rapid.SampledFrom(messages.Statuses[1:]).Draw(t, "status")}}
		}
	})
}

// I5: whatever comes in whatever order, the published statuses only go up, and
// what is published is the state. I6: terminated releases the lease exactly once.
func TestI5I6StatusesOnlyGoUpAndTheLeaseIsReleasedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := lifecycle.Backend{State: messages.State{Status: messages.Scheduled}}
		released, soft, hard := 0, 0, 0
		for _, e := range rapid.SliceOfN(anyEvent(), 0, 40).Draw(t, "events") {
			next, actions := lifecycle.Step(b, e)
			if next.Status < b.Status {
				t.Fatalf("%v took %s back to %s", e, b.Status, next.Status)
			}
			if actions.Publish != (next.Status > b.Status) {
				t.Fatalf("%v: %s → %s, published: %v", e, b.Status, next.Status, actions.Publish)
			}
			if b.Status == messages.Terminated && next != b {
				t.Fatalf("%v changed an ended backend to %+v", e, next)
			}
			if next.Status == messages.Terminated && b.Status != messages.Terminated && next.LastStatus != b.Status {
				t.Fatalf("last status is %s, was %s", next.LastStatus, b.Status)
			}
			if actions.Release {
				released++
			}
			if _, asked := e.(lifecycle.TerminateAsked); asked && actions.Terminate != nil {
				if actions.Terminate.Hard {
					hard++
				} else {
					soft++
				}
			}
			b = next
		}
		if want := b.Status == messages.Terminated; (released == 1) != want || released > 1 {
			t.Fatalf("released %d times, ended: %v", released, want)
		}
		if soft > 1 || hard > 1 {
			t.Fatalf("asked to end %d times softly and %d times hard", soft, hard)
		}
	})
}

// I3: a drone's report shows which actions it took also when it changes nothing.
func TestI3RepeatedReportStillShowsWhatWasTaken(t *testing.T) {
	b := lifecycle.Backend{State: messages.State{Status: messages.Ready}}
	next, actions := lifecycle.Step(b, lifecycle.Reported{State: messages.State{Status: messages.Loading}})
	if next != b || actions != (lifecycle.Actions{Taken: true}) {
		t.Fatalf("got %+v, %+v", next, actions)
	}
}

func TestAddressIsKeptByLaterStates(t *testing.T) {
	b := lifecycle.Backend{State: messages.State{Status: messages.Waiting, Address: "127.0.0.1:1"}}
	next, _ := lifecycle.Step(b, lifecycle.Reported{State: messages.State{Status: messages.Ready}})
	if next.Address != "127.0.0.1:1" {
		t.Fatalf("address is %q", next.Address)
	}
}
