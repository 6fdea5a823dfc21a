package lifecycle_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/messages"
)

func anyEvent() *rapid.Generator[lifecycle.Event] {
	return rapid.Custom(func(t *rapid.T) lifecycle.Event {
		chance := func() lifecycle.Chance {
			return lifecycle.Chance{InTime: rapid.Bool().Draw(t, "in time"), Held: rapid.Bool().Draw(t, "held"), Room: rapid.Bool().Draw(t, "room")}
		}
		words := rapid.SampledFrom([]string{"", "m", "n", strings.Repeat("é", messages.MaxText/2)})
		switch rapid.IntRange(0, 13).Draw(t, "event") {
		case 0:
			return lifecycle.Lost{}
		case 1, 2:
			return lifecycle.TerminateAsked{Hard: rapid.Bool().Draw(t, "hard"), Reason: messages.ReasonExternal}
		case 3, 4:
			return lifecycle.Refused{State: messages.State{Status: messages.Terminated, Message: words.Draw(t, "message")}, Chance: chance()}
		case 5:
			return lifecycle.Forgotten{Chance: chance()}
		default:
			return lifecycle.Reported{State: messages.State{
				Status: rapid.SampledFrom(messages.Statuses[1:]).Draw(t, "status"), Message: words.Draw(t, "message"),
			}}
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
			if actions.Place && (next != b || actions != (lifecycle.Actions{Place: true})) {
				t.Fatalf("placed again as %+v, %+v", next, actions)
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

// I1: what a drone may run, or what is to end, is never placed on another; and what
// might be placed is, when all comes together. Otherwise it ends, and says why (I6).
func TestI1OnlyWhatNoDroneTookIsPlacedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := lifecycle.Backend{State: messages.State{Status: messages.Scheduled}}
		for _, e := range rapid.SliceOfN(anyEvent(), 1, 8).Draw(t, "events") {
			next, actions := lifecycle.Step(b, e)
			var chance lifecycle.Chance
			refused, isRefused := e.(lifecycle.Refused)
			forgotten, isForgotten := e.(lifecycle.Forgotten)
			switch {
			case isRefused:
				chance = refused.Chance
			case isForgotten:
				chance = forgotten.Chance
			}
			may := b.Status == messages.Scheduled && b.Asked == lifecycle.NotAsked && chance == lifecycle.Chance{InTime: true, Held: true, Room: true}
			if actions.Place != may {
				t.Fatalf("%+v at %+v: placed again: %v", e, b, actions.Place)
			}
			if (isRefused || isForgotten) && !may && next.Status != messages.Terminated {
				t.Fatalf("%+v leaves it %s", e, next.Status)
			}
			if isRefused && !may && b.Status == messages.Scheduled &&
				(next.Reason != messages.ReasonStartFailed || !strings.HasPrefix(next.Message, "no drone had room") || len(next.Message) > messages.MaxText || !utf8.ValidString(next.Message)) {
				t.Fatalf("refused, it ends as %+v", next.State)
			}
			if isForgotten && !may && b.Status != messages.Terminated && next.Reason != messages.ReasonLost {
				t.Fatalf("forgotten, it ends as %+v", next.State)
			}
			b = next
		}
	})
}

// What a loading backend says of its progress replaces what it said before, without an
// event; any other state keeps the words that it came with.
func TestLoadingMayChangeItsWords(t *testing.T) {
	for _, status := range messages.Statuses[1:] {
		b := lifecycle.Backend{State: messages.State{Status: status, Message: "12 of 80 MB"}}
		for said, want := range map[string]string{"40 of 80 MB": "40 of 80 MB", "": "12 of 80 MB"} {
			if status != messages.Loading {
				want = "12 of 80 MB"
			}
			next, actions := lifecycle.Step(b, lifecycle.Reported{State: messages.State{Status: status, Message: said}})
			if next.Message != want || next.Status != status || actions != (lifecycle.Actions{Taken: true}) {
				t.Errorf("%s: %q gives %+v, %+v", status, said, next, actions)
			}
		}
	}
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
