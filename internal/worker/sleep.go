package worker

import (
	"context"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// enqueue hands committed rows to the relay, and counts who falls asleep and wakes by them.
func (w *worker) enqueue(rows []outbox.Row) {
	w.countNaps(rows)
	w.relay.Enqueue(rows)
}

func (w *worker) countNaps(rows []outbox.Row) {
	for i := range rows {
		if rows[i].Kind == outbox.KindNap {
			w.metrics.Napped(messages.AsleepAt(rows[i].Nap))
		}
	}
}

// nap puts a backend to sleep, or wakes it, by hand.
func (w *worker) nap(ctx context.Context, data []byte, sleep bool) (any, error) {
	r, err := messages.Decode[messages.NapRequest](data)
	if err != nil {
		return nil, err
	}
	resp, rows, err := w.store.Nap(ctx, r.BackendID, sleep)
	w.enqueue(rows)
	if err == nil {
		w.log.Info("a backend is to sleep, or to be awake, as was asked", "backend_id", r.BackendID, "asleep", resp.Asleep, "nap", resp.Nap)
	}
	return resp, err
}

// wake wakes those of backends that are asleep.
func (w *worker) wake(ctx context.Context, backends []string) error {
	rows, err := w.store.Wake(ctx, backends)
	w.enqueue(rows)
	return err
}

// connected are the backends to which a proxy says that somebody is connected, and not over idle connections only where they do not count.
func connected(r *messages.KeepaliveRequest) (backends []string) {
	for i, backend := range r.Backends {
		if (i >= len(r.IdleMS) || r.IdleMS[i] == 0) && (i >= len(r.SilentMS) || r.SilentMS[i] == 0) {
			backends = append(backends, backend)
		}
	}
	return backends
}
