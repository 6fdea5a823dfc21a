package drone

import (
	"context"
	"time"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// held is a backend that the drone looks after, from its spawn until it has ended.
type held struct {
	backend
	sleep
	id string
	// lease is the session's, or one of its own: see there.
	lease *lease
	// sealed says that it is not renewed any more.
	sealed bool
	// Deadlines of what else is waited for; 0: of nothing.
	graceAtMS, readyByMS int64
	// lost says that the lease is not the drone's any more.
	lost bool
	// disowned says that reports of it are refused: none are made.
	disowned bool
	// begun says that the runtime may have started it.
	begun    bool
	instance runtime.Instance
	// handle and address are the instance's; the address is host:port, or "". pid and startedAt
	// are its process, and group its cgroup, for the guard.
	handle, address string
	pid             int
	startedAt       uint64
	group           string
	demands         runtime.Demands
	// cluster is the drone's when it took the backend: by it the guard tells the backend's processes and containers from
	// those of another stack.
	cluster string
	// spare is the id of the spare that it has claimed, or is about to: what runs of it was started under that. "": under its own.
	spare string
	// abort ends the start and the probing.
	abort context.CancelFunc
	lines *lines
	said  progress
	// met is what the last probe met that got no answer.
	met string
	// takenAt is when this agent took the spawn; zero: an earlier one did.
	takenAt time.Time
	// span is that of the start: from the spawn until it is ready, or has failed.
	span tracing.Span
	// trace is what its reports continue: the trace context of the last action that asked something of it.
	trace string
}

// record is what the journal keeps of h.
func (h *held) record() *journal.State {
	state := &journal.State{
		Status: h.status, Reason: h.reason, Message: h.message,
		Begun: h.begun, Handle: h.handle, Address: h.address, PID: h.pid, Start: h.startedAt, Group: h.group, Cluster: h.cluster, Spare: h.spare,
		Nap: h.nap, Asleep: h.rest != awake,
	}
	if h.sealed {
		state.Own = &journal.Lease{SoftAtMS: h.lease.softAtMS, HardAtMS: h.lease.hardAtMS}
	}
	return state
}

// apply lets an event happen to a backend.
func (a *agent) apply(ctx context.Context, h *held, e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.applyLocked(ctx, h, e)
}

// applyLocked is apply under a.mu. Nothing in it waits, so nothing is logged under
// the lock either: a log may be a pipe that nobody reads.
func (a *agent) applyLocked(ctx context.Context, h *held, e event) {
	before := h.status
	next, fx := step(h.backend, e)
	h.backend = next
	switch {
	case next.status >= messages.Ready:
		h.readyByMS = 0
	case next.status != before: // each part of a start has its time
		h.readyByMS = a.nowMS() + a.cfg.StartupTimeout.Milliseconds()
		a.dueLocked(h.readyByMS)
	}
	a.countLocked(h, before, fx.report)
	if next.status != before {
		a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record(), Over: fx.over}, fx.report)
	}
	if fx.abort {
		h.abort()
	}
	if fx.grace {
		h.graceAtMS = a.nowMS() + a.graceMS
		a.dueLocked(h.graceAtMS)
	}
	switch instance := h.instance; fx.signal {
	case signalSoft:
		a.wg.Go(func() { a.terminate(ctx, h.id, instance) })
	case signalHard:
		a.wg.Go(func() { a.kill(ctx, h.id, instance) })
	}
	if fx.over {
		a.forgetLocked(h)
	}
}

// noteLocked journals what has become of a backend, and queues the state to report.
func (a *agent) noteLocked(h *held, c journal.Change, state messages.State) {
	if state.Status == 0 || h.disowned {
		a.memory.journal.Note(c)
		return
	}
	if h.status == messages.Waiting || h.status == messages.Ready {
		state.Address = h.address
	}
	state.Message = clean(state.Message, messages.MaxText)
	c.Report = traced(messages.Report{BackendID: h.id, State: state, Nap: h.napNow()}, h.trace)
	a.reports.add(*c.Report, a.memory.journal.Note(c))
}

// traced has a report continue a trace context.
func traced(report messages.Report, trace string) *messages.Report {
	report.Traceparent, report.Tracestate = messages.TraceHeaders(trace)
	return &report
}

// forgetLocked stops looking after a backend that has ended.
func (a *agent) forgetLocked(h *held) {
	delete(a.backends, h.id)
	a.releaseLocked(h.demands)
	a.rememberLocked(h.id)
	if a.onFewer != nil {
		nudge(a.onFewer)
	}
	a.spares.Wake()
}

// rememberLocked keeps id from being spawned (again) for twice the time that a lease
// lives, which is six heartbeats (I3).
func (a *agent) rememberLocked(id string) {
	now := a.nowMS()
	a.ended.add(id, now, now+2*6*a.session.interval.Milliseconds())
}

// terminate asks an instance to end. Should that fail, the grace still runs out.
func (a *agent) terminate(ctx context.Context, id string, instance runtime.Instance) {
	if err := instance.Terminate(ctx, false); err != nil {
		a.log.WarnContext(ctx, "cannot ask the backend to end", "backend_id", id, "err", err)
	}
}

// kill ends an instance, trying until it has ended (I1).
func (a *agent) kill(ctx context.Context, id string, instance runtime.Instance) {
	for {
		if err := instance.Terminate(ctx, true); err != nil {
			a.log.ErrorContext(ctx, "cannot kill the backend, trying again", "backend_id", id, "err", err)
		}
		again := time.NewTimer(time.Second)
		select {
		case <-instance.Done():
			again.Stop()
			return
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}

// disown kills backends that the workers say are not this drone's, without a word.
func (a *agent) disown(ctx context.Context, ids []string) {
	a.log.WarnContext(ctx, "killing backends that the workers say are not this drone's", "backend_ids", ids)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if h := a.backends[id]; h != nil {
			h.disowned = true
			a.loseLocked(ctx, h)
		}
	}
}

// loseLocked kills a backend whose lease is not the drone's any more.
func (a *agent) loseLocked(ctx context.Context, h *held) {
	h.lost = true
	a.sealLocked(h)
	a.applyLocked(ctx, h, endAsked{hard: true, reason: messages.ReasonLost, message: "the lease is no longer the drone's"})
}
