package drone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// maxUnsure bounds the actions that may be a later session's (I8): those that may be under way,
// and as many that came again.
const maxUnsure = 2 * bus.MaxUnacknowledged

// onAction takes one delivery of an action in, and acknowledges it if it is journalled (I3); else
// it comes again. What is not an action will never be one, so it is acknowledged, too.
func (a *agent) onAction(ctx context.Context, msg *nats.Msg) {
	action, err := messages.Decode[messages.Action](msg.Data)
	if err != nil {
		a.log.ErrorContext(ctx, "refused a malformed action", "subject", msg.Subject, "err", err)
	}
	if a.takes(ctx, msg, &action, err == nil) {
		a.acknowledge(ctx, msg)
	}
}

// takes says whether an action is to be acknowledged.
func (a *agent) takes(ctx context.Context, msg *nats.Msg, action *messages.Action, isOne bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaving || !a.known.Load() {
		return false // it is for the next run of the agent, or for the next session, if not for another agent
	}
	mine, done := false, true
	if isOne {
		mine = a.concernsLocked(action)
		done = a.takeLocked(ctx, action, messages.TraceContext(msg.Header.Get(messages.HeaderTraceparent), msg.Header.Get(messages.HeaderTracestate)))
	}
	if done && !mine && len(a.session.unsure) < maxUnsure { // else it will come again
		a.session.unsure = append(a.session.unsure, msg)
		nudge(a.changed) // a heartbeat makes sure
	}
	return done && mine
}

// concernsLocked says that an action is this session's to acknowledge. Who has the drone's
// name no more, and has not heard so yet, gets the actions of the agent that has it now.
func (a *agent) concernsLocked(action *messages.Action) bool {
	return a.backends[action.BackendID] != nil || action.Spawn != nil && action.Spawn.Session == a.session.id
}

// sureLocked gives the first n actions that might have been a later session's, to be acknowledged: a
// worker has heard this one since they came, so none had begun then. What was done about
// them before was to refuse them, which is not believed of a session that is over.
func (a *agent) sureLocked(n int) []*nats.Msg {
	sure := slices.Clone(a.session.unsure[:n])
	a.session.unsure = slices.Delete(a.session.unsure, 0, n)
	return sure
}

func (a *agent) acknowledge(ctx context.Context, actions ...*nats.Msg) {
	for _, msg := range actions {
		if err := msg.Ack(); err != nil { // it will come again
			a.log.DebugContext(ctx, "cannot acknowledge an action", "err", err)
		}
	}
}

// takeLocked does what an action asks for, unless it was done before, and says whether that is
// journalled: then it need not be delivered again (I3).
func (a *agent) takeLocked(ctx context.Context, action *messages.Action, traceparent string) bool {
	h := a.backends[action.BackendID]
	switch {
	case action.Spawn != nil && action.Type == messages.TypeSpawn:
		if h == nil && !a.ended.has(action.BackendID) {
			span := a.cfg.Tracer.Start(traceparent, "spawn", tracing.Consumer, time.Now())
			span.Set("jetway.backend_id", action.BackendID)
			span.Set("jetway.drone", a.cfg.Name)
			a.spawnLocked(ctx, action.BackendID, action.Spawn, span, traceparent)
			return true
		}
	case action.Type == messages.TypeSleep || action.Type == messages.TypeWake:
		if h != nil { // of what is not here nothing can sleep
			h.trace = cmp.Or(traceparent, h.trace)
			a.napLocked(ctx, h, action.Nap)
		}
	case h != nil:
		h.trace = cmp.Or(traceparent, h.trace)
		a.applyLocked(ctx, h, endAsked{hard: action.Terminate.Hard, reason: action.Terminate.Reason})
	case !a.reports.has(action.BackendID):
		// Its spawn is yet to come, and must not run then; or it ended, and the workers may have lost that with
		// their database's last commits (I6): saying so again changes nothing.
		message := "it was ended before it was started"
		if a.ended.has(action.BackendID) {
			message = "it had ended before it was asked to"
		}
		state := refusal(action.Terminate.Reason, message)
		if state.Kind = messages.Soft; action.Terminate.Hard {
			state.Kind = messages.Hard
		}
		a.refuseLocked(*traced(messages.Report{BackendID: action.BackendID, State: state}, traceparent))
		return true
	}
	return a.memory.journal.Failing() == nil // what came of it, now or before, is in there
}

// spawnLocked takes a backend on, or says why not. It is journalled, or not taken on (I3).
func (a *agent) spawnLocked(ctx context.Context, id string, spawn *messages.Spawn, span tracing.Span, trace string) {
	now := a.nowMS()
	demands := a.demandsOf(spawn.Executable)
	if report := a.refusalLocked(spawn, demands, now); report.Message != "" {
		a.refuseSpawnLocked(id, *traced(report, trace), span)
		return
	}
	start, abort := context.WithCancel(ctx)
	h := &held{
		takenAt: time.Now(),
		id:      id, abort: abort, lines: a.output.lines(id), span: span, demands: demands, trace: cmp.Or(span.Traceparent(), trace),
		lease: a.session.lease, cluster: a.cfg.Cluster,
	}
	var fx effects
	h.backend, fx = step(h.backend, spawned{})
	report := *traced(messages.Report{BackendID: id, State: fx.report}, h.trace)
	safe, secret := a.withoutSecrets(spawn)
	mark, err := a.memory.journal.Take(journal.Change{BackendID: id, Spawn: safe, Secret: secret, State: h.record(), Report: &report})
	if err != nil {
		abort()
		h.lines.close()
		a.refuseSpawnLocked(id, *traced(unjournalled(err), trace), span)
		return
	}
	a.reports.add(report, mark)
	a.holdLocked(h)
	h.readyByMS = now + a.cfg.StartupTimeout.Milliseconds()
	a.dueLocked(min(h.lease.dueMS(), h.readyByMS))
	spec := a.specOf(ctx, h, spawn)
	a.wg.Go(func() { a.runBackend(ctx, start, h, spec, a.starter(spawn)) })
}

// unjournalled says that a spawn was refused for want of a journal.
func unjournalled(err error) messages.Report {
	return messages.Report{Refused: true, State: refusal(messages.ReasonStartFailed, fmt.Sprintf("the drone's journal cannot be written: %v", err))}
}

func (a *agent) refuseSpawnLocked(id string, report messages.Report, span tracing.Span) {
	report.BackendID = id
	span.End(errors.New(report.Message))
	a.refuseLocked(report)
}

// holdLocked begins to look after a backend.
func (a *agent) holdLocked(h *held) {
	a.backends[h.id] = h
	a.promiseLocked(h.demands)
}

// refusalLocked says why a spawn cannot be taken on; without a message it can. What is
// refused for want of room may find it on another drone.
func (a *agent) refusalLocked(spawn *messages.Spawn, demands runtime.Demands, now int64) messages.Report {
	switch {
	case spawn.Session != a.session.id:
		return messages.Report{State: refusal(messages.ReasonLost, "it was placed on an earlier session of the drone")}
	case now >= min(spawn.Deadlines.SoftTerminateAtMS, spawn.Deadlines.HardTerminateAtMS, a.session.lease.dueMS()):
		return messages.Report{State: refusal(messages.ReasonLost, "its spawn reached the drone too late")}
	}
	why := a.noRoomLocked(demands)
	if a.stopping {
		why = "the drone is shutting down"
	}
	if why == "" {
		why = a.cannot()
	}
	return messages.Report{Refused: true, State: refusal(messages.ReasonStartFailed, why)}
}

func refusal(reason messages.TerminationReason, message string) messages.State {
	return messages.State{Status: messages.Terminated, Reason: reason, Message: message}
}

// refuseLocked states that a backend ends without having begun. That is journalled,
// too, unless nothing can be: nothing runs, and a later run refuses it again.
func (a *agent) refuseLocked(report messages.Report) {
	a.rememberLocked(report.BackendID)
	var mark journal.Mark
	if a.memory.journal.Failing() == nil {
		mark = a.memory.journal.Note(journal.Change{BackendID: report.BackendID, Report: &report})
	}
	a.reports.add(report, mark)
}
