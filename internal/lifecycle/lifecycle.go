// Package lifecycle holds the rules of a backend's life as one pure function:
// (state, event) → (state, actions). No I/O, no clock, no context.
//
// Invariants that hold by construction:
//   - I5: a status only goes up; what would take it back or repeats it changes nothing.
//   - I6: terminated is reached from every state by Lost or by the drone's report,
//     it releases the lease in the same step, and nothing leads out of it.
//   - A termination is asked for at most once softly and once hard.
//
// Spawning is not here: it is the beginning of the state, decided with the lease.
package lifecycle

import "github.com/jetway-project/jetway/messages"

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
}

// Event is what happens to a backend: [Reported], [TerminateAsked] or [Lost].
type Event interface{ event() }

// Reported is a state that the backend's drone states.
type Reported struct{ State messages.State }

// TerminateAsked is the wish to end a backend.
type TerminateAsked struct {
	Hard   bool
	Reason messages.TerminationReason
}

// Lost says that the backend's drone is gone or no longer holds its lease.
type Lost struct{}

func (Reported) event()       {}
func (TerminateAsked) event() {}
func (Lost) event()           {}

// Actions are what must happen together with the change of state.
type Actions struct {
	// Publish says that the new state is an event.
	Publish bool
	// Release says that the lease is given back.
	Release bool
	// Terminate is sent to the backend's drone.
	Terminate *messages.Terminate
	// Taken says that actions whose goal the status has reached are off the record.
	Taken bool
}

// Step applies one event. A step that changes nothing gives b back and, except
// for Taken, no actions.
func Step(b Backend, e Event) (Backend, Actions) {
	switch e := e.(type) {
	case Reported:
		// Also a repeated report shows what the drone has taken.
		if e.State.Status <= b.Status {
			return b, Actions{Taken: true}
		}
		next := b
		next.State = e.State
		if next.Address == "" {
			next.Address = b.Address
		}
		if next.Status == messages.Terminated {
			next.LastStatus = b.Status
		}
		return next, Actions{Publish: true, Taken: true, Release: next.Status == messages.Terminated}

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
		return next, Actions{Terminate: &messages.Terminate{Hard: e.Hard, Reason: e.Reason}}

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
		}
		next.Asked = AskedHard
		return next, Actions{
			Publish: true, Release: true,
			Terminate: &messages.Terminate{Hard: true, Reason: messages.ReasonLost},
		}
	}
	return b, Actions{}
}
