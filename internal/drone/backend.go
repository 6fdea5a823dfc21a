package drone

import (
	"cmp"
	"fmt"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// backend is all that the rules of a backend's life look at. The zero value has
// not been spawned yet.
type backend struct {
	status messages.Status
	// running says that there is an instance, whose end is still to come.
	running bool
	// reason and message say why it is to end, once it is.
	reason  messages.TerminationReason
	message string
	// cause is what led to that, where the reason leaves it open.
	cause messages.TerminationCause
}

// event is what happens to a backend.
type event interface{ event() }

type (
	// spawned: the drone has taken it on.
	spawned struct{}
	// prepared: what it runs is there.
	prepared struct{}
	// started: there is an instance, which is ready already or is not; without an address there is nothing to probe.
	started struct {
		address string
		ready   bool
	}
	// answered: the probe got an HTTP response.
	answered struct{}
	// failed: it could not be started, and nothing runs. Without a reason it is
	// start-failed.
	failed struct {
		reason  messages.TerminationReason
		message string
	}
	// exited: nothing of it runs any more. lastWords are its last lines of output.
	exited struct {
		exit      runtime.Exit
		lastWords []string
	}
	// endAsked: it is to end. Without a reason, hard goes on with the reason that
	// the soft one had.
	endAsked struct {
		hard    bool
		reason  messages.TerminationReason
		message string
		cause   messages.TerminationCause
	}
)

func (spawned) event()  {}
func (prepared) event() {}
func (started) event()  {}
func (answered) event() {}
func (failed) event()   {}
func (exited) event()   {}
func (endAsked) event() {}

// signal is what an instance is told.
type signal int

const (
	noSignal signal = iota
	signalSoft
	signalHard
)

// effects are what must follow from a step.
type effects struct {
	// report is the state to report, if its status is not zero.
	report messages.State
	// signal goes to the instance.
	signal signal
	// abort ends the start that is under way, and the probing.
	abort bool
	// grace says that a hard termination follows if the soft one does not work.
	grace bool
	// over says that there is nothing left to look after.
	over bool
}

// step applies one event: no I/O, no clock. Statuses only go up (I5), and
// terminated comes after the end of the instance only (I1).
func step(b backend, e event) (backend, effects) {
	switch e := e.(type) {
	case spawned:
		return b.reach(messages.Loading, effects{})
	case prepared:
		return b.reach(messages.Starting, effects{})
	case started:
		return b.start(e.ready || e.address == "")
	case answered:
		if !b.running {
			return b, effects{}
		}
		return b.reach(messages.Ready, effects{})
	case endAsked:
		return b.end(e)
	case failed:
		state := messages.State{Message: e.message, Reason: cmp.Or(e.reason, messages.ReasonStartFailed)}
		return b.over(state)
	case exited:
		state := messages.State{Message: e.exit.Message} // "out of memory …"
		if e.exit.Code >= 0 {
			state.ExitCode = &e.exit.Code
		} else {
			state.Message = e.exit.String()
		}
		if b.status < messages.Ready {
			state.Reason = messages.ReasonStartFailed
			state.Message = fmt.Sprintf("the process ended before it was ready: %s", e.exit)
		}
		state.Message = withLast(state.Message, "its last output", e.lastWords...)
		return b.over(state)
	}
	return b, effects{}
}

// reach takes b up to a status; where it is already, or past it, nothing happens.
func (b backend) reach(status messages.Status, fx effects) (backend, effects) {
	if b.status >= status {
		return b, effects{}
	}
	b.status = status
	fx.report.Status = status
	return b, fx
}

func (b backend) start(ready bool) (backend, effects) {
	switch {
	case b.running || b.status == messages.Terminated:
		return b, effects{}
	case b.status >= messages.HardTerminating:
		b.running = true
		return b, effects{signal: signalHard}
	case b.status == messages.Terminating:
		b.running = true
		return b, effects{signal: signalSoft}
	}
	b.running = true
	next := messages.Waiting
	if ready {
		next = messages.Ready
	}
	return b.reach(next, effects{})
}

func (b backend) end(e endAsked) (backend, effects) {
	next, fx := messages.Terminating, effects{abort: true, grace: true}
	if e.hard {
		next, fx = messages.HardTerminating, effects{abort: true}
	}
	if b.status >= next {
		return b, effects{}
	}
	if b.running {
		fx.signal = signalSoft
		if e.hard {
			fx.signal = signalHard
		}
	}
	if e.reason != "" {
		b.reason, b.message, b.cause = e.reason, e.message, e.cause
	}
	b, fx = b.reach(next, fx)
	fx.report.Reason, fx.report.Message, fx.report.Why = b.reason, b.message, b.why()
	return b, fx
}

// why is what the drone says of an end that it asked for itself.
func (b backend) why() messages.Why {
	if b.cause == "" {
		return messages.Why{}
	}
	return messages.Why{Cause: b.cause, Words: b.message}
}

// over ends b; state says how, unless the backend was asked to end.
func (b backend) over(state messages.State) (backend, effects) {
	switch b.status {
	case messages.Terminated:
		return b, effects{}
	case messages.Terminating:
		state.Kind, state.Reason, state.Message, state.Why = messages.Soft, b.reason, b.message, b.why()
	case messages.HardTerminating:
		state.Kind, state.Reason, state.Message, state.Why = messages.Hard, b.reason, b.message, b.why()
	}
	state.Status, state.LastStatus = messages.Terminated, b.status
	b.status, b.running = messages.Terminated, false
	return b, effects{report: state, abort: true, over: true}
}
