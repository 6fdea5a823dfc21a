package worker

import (
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// trace begins the span of a request: of every connect, and of what else continues
// a trace. Heartbeats and the like would be noise otherwise.
func (w *worker) trace(req *request, endpoint string) {
	parent := traceparent(req)
	if parent == "" && req.subject != messages.SubjectConnect {
		return
	}
	req.span = w.cfg.Tracer.Start(parent, endpoint, tracing.Server, req.arrived)
	req.span.Set("messaging.system", "nats")
	req.span.Set("messaging.destination.name", req.subject)
}

// traceStatement notes in each request's trace the statement that settled it with
// its neighbours: one statement has as many parents as requests, so each has a span
// of it.
func traceStatement(batch []*request, outcomes []lease.Outcome, began time.Time) {
	for i, req := range batch {
		if !req.span.On() {
			continue
		}
		span := req.span.Child("statement", began)
		span.Set("db.system.name", "postgresql")
		span.SetInt("jetway.batch_requests", len(batch))
		span.End(nil)
		switch out := &outcomes[i]; {
		case out.Response != nil && out.Response.Spawned:
			req.span.Set("jetway.backend_id", out.Response.BackendID)
			req.span.Set("jetway.drone", out.Response.Drone)
		case out.Response != nil:
			req.span.Set("jetway.backend_id", out.Response.BackendID)
		case out.Leaving != nil:
			req.span.Set("jetway.waits_for", out.Leaving.BackendID)
		}
	}
}
