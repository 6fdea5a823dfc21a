package drone

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// maxAcks bounds the actions that wait to be acknowledged (I8): those that may be
// under way, and as many that came again.
const maxAcks = 2 * bus.MaxUnacknowledged

// ack is an action to be acknowledged when all up to mark is journalled.
type ack struct {
	msg  *nats.Msg
	mark journal.Mark
}

// onAction takes one delivery of an action in, to be acknowledged once that is
// journalled (I3). What is not an action will never be one, so it is acknowledged, too.
func (a *agent) onAction(ctx context.Context, msg *nats.Msg) {
	action, err := messages.Decode[messages.Action](msg.Data)
	if err != nil {
		a.log.ErrorContext(ctx, "refused a malformed action", "subject", msg.Subject, "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaving || !a.known.Load() {
		return // it is for the next run of the agent, or for the next session, if not for another agent
	}
	next, mine := ack{msg: msg}, false
	if err == nil {
		mine = a.concernsLocked(&action)
		next.mark = a.takeLocked(ctx, &action, msg.Header.Get(messages.HeaderTraceparent))
	}
	switch {
	case mine:
		a.ackLocked(next)
	case len(a.session.unsure) < maxAcks: // else it will come again
		a.session.unsure = append(a.session.unsure, next)
		nudge(a.changed) // a heartbeat makes sure
	}
}

// concernsLocked says that an action is this session's to acknowledge. Who has the drone's
// name no more, and has not heard so yet, gets the actions of the agent that has it now.
func (a *agent) concernsLocked(action *messages.Action) bool {
	return a.backends[action.BackendID] != nil || action.Spawn != nil && action.Spawn.Session == a.session.id
}

// sureLocked acknowledges the first n actions that might have been a later session's: a
// worker has heard this one since they came, so none had begun then. What was done about
// them before was to refuse them, which is not believed of a session that is over.
func (a *agent) sureLocked(n int) {
	for _, next := range a.session.unsure[:n] {
		a.ackLocked(next)
	}
	a.session.unsure = slices.Delete(a.session.unsure, 0, n)
}

func (a *agent) ackLocked(next ack) {
	select {
	case a.acks <- next:
	default: // it will come again, and change nothing then
	}
}

// acknowledge acknowledges what is journalled, until ctx ends.
func (a *agent) acknowledge(ctx context.Context) {
	for {
		select {
		case next := <-a.acks:
			if a.journalled(ctx, next.mark) != nil {
				return // it will come again
			}
			if err := next.msg.Ack(); err != nil {
				a.log.DebugContext(ctx, "cannot acknowledge an action", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// takeLocked does what an action asks for, unless it was done before (I3). Once all up to
// the mark is journalled, it need not be delivered again.
func (a *agent) takeLocked(ctx context.Context, action *messages.Action, traceparent string) journal.Mark {
	h := a.backends[action.BackendID]
	switch {
	case action.Spawn != nil && action.Type == messages.TypeSpawn:
		if h == nil && !a.ended.has(action.BackendID) {
			span := a.cfg.Tracer.Start(traceparent, "spawn", tracing.Consumer, time.Now())
			span.Set("jetway.backend_id", action.BackendID)
			span.Set("jetway.drone", a.cfg.Name)
			return a.spawnLocked(ctx, action.BackendID, action.Spawn, span)
		}
	case h != nil:
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
		return a.refuseLocked(messages.Report{BackendID: action.BackendID, State: state})
	}
	return a.memory.journal.Last() // what came of it before is in there
}

// spawnLocked takes a backend on, or says why not.
func (a *agent) spawnLocked(ctx context.Context, id string, spawn *messages.Spawn, span tracing.Span) journal.Mark {
	now := a.nowMS()
	demands := a.demandsOf(spawn.Executable)
	if report := a.refusalLocked(spawn, demands, now); report.Message != "" {
		report.BackendID = id
		span.End(errors.New(report.Message))
		return a.refuseLocked(report)
	}
	start, abort := context.WithCancel(ctx)
	h := &held{
		id: id, abort: abort, lines: a.output.lines(id), span: span, demands: demands,
		lease: a.session.lease,
	}
	a.holdLocked(h)
	var fx effects
	h.backend, fx = step(h.backend, spawned{})
	h.readyByMS = now + a.cfg.StartupTimeout.Milliseconds()
	a.dueLocked(min(h.lease.dueMS(), h.readyByMS))
	safe, secret := a.withoutSecrets(spawn)
	a.noteLocked(h, journal.Change{BackendID: id, Spawn: safe, Secret: secret, State: h.record()}, fx.report)
	spec := a.specOf(ctx, h, spawn)
	a.wg.Go(func() { a.runBackend(ctx, start, h, spec, a.launch) })
	return h.mark
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
		why = a.memory.cannotRemember()
	}
	return messages.Report{Refused: true, State: refusal(messages.ReasonStartFailed, why)}
}

func refusal(reason messages.TerminationReason, message string) messages.State {
	return messages.State{Status: messages.Terminated, Reason: reason, Message: message}
}

// refuseLocked states that a backend ends without having begun. That is journalled,
// too, unless nothing can be: nothing runs, and a later run refuses it again.
func (a *agent) refuseLocked(report messages.Report) journal.Mark {
	a.rememberLocked(report.BackendID)
	var mark journal.Mark
	if !a.memory.failing() {
		mark = a.memory.journal.Note(journal.Change{BackendID: report.BackendID, Report: &report})
	}
	a.reports.add(report, mark)
	return mark
}
