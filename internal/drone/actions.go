package drone

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// onAction takes one delivery of an action in and then acknowledges it. What is
// not an action will never be one, so it is not delivered again.
func (a *agent) onAction(ctx context.Context, msg *nats.Msg) {
	action, err := messages.Decode[messages.Action](msg.Data)
	if err != nil {
		a.log.ErrorContext(ctx, "refused a malformed action", "subject", msg.Subject, "err", err)
		err = msg.Term()
	} else {
		a.take(ctx, &action, msg.Header.Get(messages.HeaderTraceparent))
		err = msg.Ack()
	}
	if err != nil {
		// It will come again, and change nothing then.
		a.log.DebugContext(ctx, "cannot acknowledge an action", "backend_id", action.BackendID, "err", err)
	}
}

// take does what an action asks for, unless it was done before (I3).
func (a *agent) take(ctx context.Context, action *messages.Action, traceparent string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.backends[action.BackendID]
	switch {
	case action.Spawn != nil && action.Type == messages.TypeSpawn:
		if h == nil && !a.ended.has(action.BackendID) {
			span := a.cfg.Tracer.Start(traceparent, "spawn", tracing.Consumer, time.Now())
			span.Set("jetway.backend_id", action.BackendID)
			span.Set("jetway.drone", a.cfg.Name)
			a.spawnLocked(ctx, action.BackendID, action.Spawn, span)
		}
	case h != nil:
		a.applyLocked(ctx, h, endAsked{hard: action.Terminate.Hard, reason: action.Terminate.Reason})
	case !a.ended.has(action.BackendID):
		// Its spawn is yet to come, and must not run then; or it ended before this
		// run of the agent, and saying so again changes nothing.
		state := messages.State{Kind: messages.Soft, Reason: action.Terminate.Reason, Message: "it was ended before it was started"}
		if action.Terminate.Hard {
			state.Kind = messages.Hard
		}
		a.refuseLocked(action.BackendID, state)
	}
}

// spawnLocked takes a backend on, or says why not.
func (a *agent) spawnLocked(ctx context.Context, id string, spawn *messages.Spawn, span tracing.Span) {
	now := a.nowMS()
	if refusal := a.refusalLocked(spawn, now); refusal.Message != "" {
		a.refuseLocked(id, refusal)
		span.End(errors.New(refusal.Message))
		return
	}
	start, abort := context.WithCancel(ctx)
	h := &held{
		id: id, abort: abort, lines: a.output.lines(id), span: span,
		softAtMS: spawn.Deadlines.SoftTerminateAtMS, hardAtMS: spawn.Deadlines.HardTerminateAtMS,
		readyByMS: now + a.cfg.StartupTimeout.Milliseconds(),
	}
	a.backends[id] = h
	a.dueLocked(min(h.softAtMS, h.hardAtMS, h.readyByMS))
	a.applyLocked(ctx, h, spawned{})
	spec := specOf(h, spawn)
	a.wg.Go(func() { a.runBackend(ctx, start, h, spec) })
}

// refusalLocked says why a spawn cannot be taken on; without a message it can.
func (a *agent) refusalLocked(spawn *messages.Spawn, now int64) messages.State {
	switch {
	case spawn.Session != a.session.id:
		return messages.State{Reason: messages.ReasonLost, Message: "it was placed on an earlier session of the drone"}
	case now >= spawn.Deadlines.SoftTerminateAtMS, now >= spawn.Deadlines.HardTerminateAtMS:
		return messages.State{Reason: messages.ReasonLost, Message: "its spawn reached the drone too late"}
	case a.stopping:
		return messages.State{Reason: messages.ReasonStartFailed, Message: "the drone is shutting down"}
	case a.cfg.MaxBackends > 0 && len(a.backends) >= a.cfg.MaxBackends:
		return messages.State{Reason: messages.ReasonStartFailed, Message: "the drone is full"}
	}
	return messages.State{}
}

// refuseLocked states that a backend ends without having begun.
func (a *agent) refuseLocked(id string, state messages.State) {
	state.Status = messages.Terminated
	a.rememberLocked(id)
	a.reports.add(id, state)
}
