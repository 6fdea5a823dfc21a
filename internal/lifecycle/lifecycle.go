// Package lifecycle holds the rules of a backend's life as one pure function:
// (state, event) → (state, actions). No I/O, no clock, no context.
//
// Invariants that hold by construction:
//   - I5: a status only goes up; what would take it back or repeats it changes nothing,
//     except that a backend that is loading may say in other words how far it is.
//   - I6: terminated is reached from every state by Lost or by the drone's report,
//     it releases the lease in the same step, and nothing leads out of it.
//   - A termination is asked for at most once softly and once hard.
//   - Only what no drone has taken is placed again (I1), and nothing that is to end.
//   - A nap only rises, and nothing that is to end, or has, sleeps: see [SleepAsked].
//
// Spawning is not here: it is the beginning of the state, decided with the lease.
package lifecycle

import (
	"cmp"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// Asked is how far the workers have gone in ending a backend.
type Asked int16

// The grades of asking.
const (
	NotAsked Asked = iota
	AskedSoft
	AskedHard
)

// Backend is what the rules look at.
type Backend struct {
	messages.State
	Asked Asked
	// Nap counts its changes between awake and asleep: see [SleepAsked]. ReclaimedBytes is what its drone said of this nap.
	Nap, ReclaimedBytes int64
}

// Event is what happens to a backend: [Reported], [Refused], [TerminateAsked], [Lost],
// [Forgotten], [SleepAsked] or [WakeAsked].
type Event interface{ event() }

// Reported is a state that the backend's drone states.
type Reported struct {
	State messages.State
	Nap   messages.Nap
}

// TerminateAsked is the wish to end a backend.
type TerminateAsked struct {
	Hard   bool
	Reason messages.TerminationReason
	Why    messages.Why
}

// Lost says that the backend's drone is gone or no longer holds its lease. Why is told as it is found.
type Lost struct{ Why messages.Why }

// Refused is the word of a backend's drone that it has not taken it, for want of room,
// and never will: the backend is placed on another drone, or ends as State says.
type Refused struct {
	State  messages.State
	Chance Chance
}

// Forgotten says that the backend's drone has begun anew and does not run it: it is placed
// on another drone if the drone has never said that it took it, and else lost.
type Forgotten struct{ Chance Chance }

// Chance is what has to come together for a backend to be placed on another drone.
type Chance struct {
	// InTime: the request that scheduled it has not reached its deadline.
	InTime bool
	// Held: its lease has not run out and may be renewed.
	Held bool
	// Room: there is a drone that qualifies and has not refused it.
	Room bool
}

func (Reported) event()       {}
func (Refused) event()        {}
func (Forgotten) event()      {}
func (TerminateAsked) event() {}
func (Lost) event()           {}

// Actions are what must happen together with the change of state.
type Actions struct {
	// Place says that the backend is placed on another drone, under the same lease,
	// which is renewed; its state stays.
	Place bool
	// Publish says that the new state is an event.
	Publish bool
	// Release says that the lease is given back.
	Release bool
	// Terminate is sent to the backend's drone.
	Terminate *messages.Terminate
	// Taken says that actions whose goal the status has reached are off the record.
	Taken bool
	// Nap says that the backend's nap is a new one, which is an event and is sent to its drone.
	Nap bool
}

// Step applies one event. A step that changes nothing gives b back and, except
// for Taken, no actions.
func Step(b Backend, e Event) (Backend, Actions) {
	switch e := e.(type) {
	case Reported:
		// Also a repeated report shows what the drone has taken.
		if e.State.Status <= b.Status {
			if b.Status == messages.Loading && e.State.Status == messages.Loading && e.State.Message != "" {
				b.Message = e.State.Message
			}
			a := Actions{Taken: true}
			b.napSaid(e.Nap, &a)
			return b, a
		}
		next := b
		next.State = e.State
		if next.Address == "" {
			next.Address = b.Address
		}
		if next.Status == messages.Terminated {
			next.LastStatus = b.Status
		}
		// Who asked first is why it ends, unless its drone says that it ended before it was told.
		if b.Cause != "" && (next.Status != messages.Terminated || next.Kind != "") {
			next.Why = b.Why
		}
		a := Actions{Publish: true, Taken: true, Release: next.Status == messages.Terminated}
		if next.Status.Leaving() {
			next.wakeUnsaid()
		}
		next.napSaid(e.Nap, &a)
		return next, a

	case Refused:
		if b.mayBePlaced(e.Chance) {
			return b, Actions{Place: true}
		}
		state := e.State
		if b.Status == messages.Scheduled {
			state.Kind, state.Reason, state.Message = "", messages.ReasonStartFailed, b.noRoom(e)
		} else if state.Reason == "" {
			// It had begun, so it cannot be placed again: that its drone refuses it now is the drone's fault.
			state.Reason = messages.ReasonInternalError
			state.Message = cmp.Or(state.Message, "its drone refused it after it had taken it on, as "+b.Status.String())
		}
		return Step(b, Reported{State: state})

	case Forgotten:
		if b.mayBePlaced(e.Chance) {
			return b, Actions{Place: true}
		}
		return Step(b, Lost{Why: messages.Why{Cause: messages.CauseDroneForgot, Words: "its drone's agent began anew, and does not run it"}})

	case TerminateAsked:
		want, reached := AskedSoft, messages.Terminating
		if e.Hard {
			want, reached = AskedHard, messages.HardTerminating
		}
		if b.Asked >= want || b.Status >= reached {
			return b, Actions{}
		}
		next := b
		next.Asked = want
		if next.Cause == "" {
			next.Why = e.Why
		}
		a := Actions{Terminate: &messages.Terminate{Hard: e.Hard, Reason: e.Reason}}
		if next.Asleep() {
			next.turn(&a)
		}
		return next, a

	case SleepAsked:
		var a Actions
		if b.MaySleep() && !b.Asleep() {
			b.turn(&a)
		}
		return b, a

	case WakeAsked:
		var a Actions
		if b.Asleep() {
			b.turn(&a)
		}
		return b, a

	case Lost:
		if b.Status == messages.Terminated {
			return b, Actions{}
		}
		next := b
		next.State = messages.State{
			Status:     messages.Terminated,
			Address:    b.Address,
			LastStatus: b.Status,
			Reason:     messages.ReasonLost,
			Why:        e.Why,
		}
		next.Asked = AskedHard
		next.wakeUnsaid()
		return next, Actions{
			Publish: true, Release: true,
			Terminate: &messages.Terminate{Hard: true, Reason: messages.ReasonLost},
		}
	}
	return b, Actions{}
}

func (b *Backend) mayBePlaced(c Chance) bool {
	return b.Status == messages.Scheduled && b.Asked == NotAsked && c.InTime && c.Held && c.Room
}

// noRoom says to people why a backend that was refused ends.
func (b *Backend) noRoom(e Refused) string {
	text := "no drone had room for it"
	switch {
	case b.Asked != NotAsked:
		text += " before it was to end"
	case !e.Chance.Held:
		text += " before its lease ended"
	case !e.Chance.InTime:
		text += " within the time of the request"
	}
	if e.State.Message != "" {
		text += "; the last one asked said: " + e.State.Message
	}
	return strings.ToValidUTF8(text[:min(len(text), messages.MaxText)], "")
}
