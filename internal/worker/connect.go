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
		connect, err := asksFor(req)
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
		case req.key != nil && out.Response != nil:
			w.count(out.Response)
			w.resumed(req)
		case out.Response != nil:
			w.count(out.Response)
			out.Response.SpawnConfigIgnored = !out.Response.Spawned && reqs[i].SpawnConfig != nil
			w.replies.ok(req, out.Response)
		case out.Leaving != nil:
			w.leaving.park(req, out.Leaving)
		default:
			if refusal, ok := errors.AsType[*messages.Error](out.Err); ok && refusal.Kind == messages.NoDroneAvailable {
				w.metrics.NoDrone(refusal.Reason)
			}
			if req.key != nil {
				w.notResumed(req, out.Err)
				continue
			}
			w.replies.fail(req, out.Err)
		}
	}
	w.enqueue(rows)
}

// asksFor is what a request asks for: that of a route, whose key has no backend to be led to, for one of that key, whatever starts it.
func asksFor(req *request) (messages.ConnectRequest, error) {
	if req.key != nil {
		return messages.ConnectRequest{Key: req.key}, nil
	}
	return messages.Decode[messages.ConnectRequest](req.data)
}

// count counts what was started.
func (w *worker) count(resp *messages.ConnectResponse) {
	if resp.Spawned {
		w.metrics.Spawned()
	}
	if resp.Resumes != "" {
		w.metrics.Resumed()
	}
}

// traceparent is the W3C trace context that what the request causes continues: its
// span, or without one what the asker sent, if it is a valid one.
func traceparent(req *request) string {
	if own := req.span.Traceparent(); own != "" {
		return own
	}
	return messages.TraceContext(req.headers.Get(messages.HeaderTraceparent), req.headers.Get(messages.HeaderTracestate))
}
