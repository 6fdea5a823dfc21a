package worker

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

func (w *worker) droneRequest(ctx context.Context, req *request) (any, error) {
	drone, err := messages.SenderOf(req.subject)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(req.subject, ".register"):
		return w.register(ctx, drone, req.data)
	case strings.HasSuffix(req.subject, ".heartbeat"):
		return w.heartbeat(ctx, drone, req.data)
	case strings.HasSuffix(req.subject, ".templates"):
		return w.templatesOfDrone(ctx, drone, req.data)
	default:
		return w.report(ctx, drone, req.data)
	}
}

func (w *worker) register(ctx context.Context, drone string, data []byte) (any, error) {
	r, err := messages.Decode[messages.RegisterRequest](data)
	if err != nil {
		return nil, err
	}
	// First the consumer: a drone is given backends only once it can hear of them.
	consumer, err := bus.EnsureConsumer(ctx, w.js, drone)
	if err != nil {
		// Perhaps NATS lost its streams; if not, the second try says what it is.
		if err := bus.MakeMissingStreams(ctx, w.js, w.cfg.Streams); err != nil {
			return nil, unavailable(err)
		}
		if consumer, err = bus.EnsureConsumer(ctx, w.js, drone); err != nil {
			return nil, unavailable(err)
		}
	}
	done, err := w.store.Register(ctx, drone, &r)
	if err != nil {
		return nil, err
	}
	rows := []outbox.Row{done.Event}
	if len(done.Orphans) > 0 {
		changed, _, err := w.store.Transition(ctx, nil, done.Orphans)
		if err != nil {
			return nil, err
		}
		rows = append(rows, changed...)
		placed := w.logPlaced(drone, changed)
		w.log.Warn("a drone came back without backends that it had", "drone", drone, "lost", len(done.Orphans)-placed, "placed_again", placed)
	}
	if err := w.relay.Publish(ctx, rows); err != nil {
		return nil, unavailable(err)
	}
	w.relay.Heal(false) // what it has not taken is overdue now
	w.log.Info("drone registered", "drone", drone, "session", r.Session, "cluster", r.Cluster, "pool", r.Pool, "held", len(r.Backends)-len(done.Lost), "lost", len(done.Lost))
	return messages.RegisterResponse{
		Stream: messages.StreamActions, Consumer: consumer,
		HeartbeatIntervalMS: done.Terms.RenewEvery().Milliseconds(), Lost: done.Lost,
		TemplatesRevision: done.TemplatesRevision,
		Renewal:           messages.Renewal{Deadlines: done.Terms.Deadlines(r.DroneTimeMS), Sealed: done.Sealed},
	}, nil
}

func (w *worker) heartbeat(ctx context.Context, drone string, data []byte) (any, error) {
	r, err := messages.Decode[messages.HeartbeatRequest](data)
	if err != nil {
		return nil, err
	}
	heard, err := w.store.Heartbeat(ctx, drone, &r)
	if err != nil {
		return nil, err
	}
	if !heard.Known {
		return nil, unknownSession(drone, r.Session)
	}
	// The deadlines count from the time that the drone stated before the lease was written (I1).
	return messages.HeartbeatResponse{
		Draining: heard.Draining, TemplatesRevision: heard.TemplatesRevision,
		Renewal: messages.Renewal{Deadlines: heard.Terms.Deadlines(r.DroneTimeMS), Sealed: heard.Sealed},
	}, nil
}

func (w *worker) report(ctx context.Context, drone string, data []byte) (any, error) {
	r, err := messages.Decode[messages.ReportRequest](data)
	if err != nil {
		return nil, err
	}
	changes := make([]store.Change, len(r.Reports))
	for i := range r.Reports {
		changes[i] = store.Change{
			BackendID: r.Reports[i].BackendID, Event: lifecycle.Reported{State: r.Reports[i].State, Nap: r.Reports[i].Nap},
			Traceparent: messages.TraceContext(r.Reports[i].Traceparent, r.Reports[i].Tracestate),
		}
		if r.Reports[i].Refused {
			changes[i].Event = lifecycle.Refused{State: r.Reports[i].State}
		}
	}
	if mutant.On(mutant.PublishUncommitted) {
		for _, report := range r.Reports {
			event := messages.NewStateEvent(report.BackendID, time.Now(), report.State)
			_ = w.nc.Publish(messages.BackendEventSubject(report.BackendID), messages.Encode(event))
		}
	}
	holder := &store.Holder{Drone: drone, Session: r.Session}
	rows, foreign, err := w.store.Transition(ctx, holder, changes)
	if err == nil && len(foreign) > 0 {
		// Of an unknown session it cannot be said which backends are not its own:
		// the drone registers again and learns it there.
		known, err := w.store.HasSession(ctx, drone, r.Session)
		if err != nil || !known {
			return nil, cmp.Or(err, unknownSession(drone, r.Session))
		}
		// A session that has begun only now, as when the report crosses the registration,
		// may have taken them over with it.
		if rows, foreign, err = w.store.Transition(ctx, holder, changes); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if len(foreign) > 0 {
		refusal := messages.Errorf(messages.NotFound, "backend %s is not one of drone %s in session %s; nothing was changed", foreign[0], drone, r.Session)
		refusal.Backends = foreign
		return nil, refusal
	}
	w.logPlaced(drone, rows)
	w.countNaps(rows)
	// The reply waits for the event: what the drone does next follows it (I5).
	if err := w.relay.Publish(ctx, rows); err != nil {
		return nil, unavailable(err)
	}
	return messages.Empty{}, nil
}

// logPlaced says which backends a drone has not taken are placed on others, and counts them.
func (w *worker) logPlaced(drone string, rows []outbox.Row) (placed int) {
	for i := range rows {
		if rows[i].Kind == outbox.KindSpawn {
			placed++
			w.log.Info("a drone did not take a backend, which is placed on another", "backend_id", rows[i].BackendID, "drone", rows[i].Drone, "refused_by", drone)
		}
	}
	return placed
}

func unknownSession(drone, session string) error {
	return messages.Errorf(messages.NotFound, "drone %s has no session %s; register again", drone, session)
}

// unavailable is for what the bus could not do: the drone asks again.
func unavailable(err error) error {
	return messages.Errorf(messages.Unavailable, "the bus could not take the event: %v", err)
}
