package worker

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// connectBatch settles connect requests with one statement and replies.
func (w *worker) connectBatch(ctx context.Context, batch []*request) {
	now := time.Now()
	asking := make([]*request, 0, len(batch))
	reqs := make([]lease.Request, 0, len(batch))
	latest := now
	for _, req := range batch {
		if !now.Before(req.deadline) {
			w.replies.fail(req, messages.Errorf(messages.Overloaded, "the request waited past its deadline"))
			continue
		}
		connect, err := messages.Decode[messages.ConnectRequest](req.data)
		if err == nil {
			err = messages.CheckUserData(connect.Auth, w.cfg.MaxUserData)
		}
		if err == nil && w.cfg.TemplatesOnly && connect.SpawnConfig != nil && connect.SpawnConfig.Template == "" {
			err = errTemplatesOnly
		}
		if err != nil {
			w.replies.fail(req, err)
			continue
		}
		if req.deadline.After(latest) {
			latest = req.deadline
		}
		asking = append(asking, req)
		reqs = append(reqs, lease.Request{ConnectRequest: connect, Traceparent: traceparent(req), Deadline: req.deadline})
	}
	if len(asking) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	outcomes, rows := w.connector.Connect(ctx, reqs)
	if w.cfg.Tracer.On() {
		traceStatement(asking, outcomes, now)
	}
	for i, req := range asking {
		switch out := &outcomes[i]; {
		case out.Response != nil:
			if out.Response.Spawned {
				w.metrics.Spawned()
			}
			out.Response.SpawnConfigIgnored = !out.Response.Spawned && reqs[i].SpawnConfig != nil
			w.replies.ok(req, out.Response)
		case out.Leaving != nil:
			w.leaving.park(req, out.Leaving)
		default:
			if refusal, ok := errors.AsType[*messages.Error](out.Err); ok && refusal.Kind == messages.NoDroneAvailable {
				w.metrics.NoDrone(refusal.Reason)
			}
			w.replies.fail(req, out.Err)
		}
	}
	w.enqueue(rows)
}

// traceparent is the W3C trace context that what the request causes continues: its
// span, or without one what the asker sent, if it is a valid one.
func traceparent(req *request) string {
	if own := req.span.Traceparent(); own != "" {
		return own
	}
	return messages.TraceContext(req.headers.Get(messages.HeaderTraceparent), req.headers.Get(messages.HeaderTracestate))
}
