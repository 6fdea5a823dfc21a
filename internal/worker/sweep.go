package worker

import (
	"context"
	"log/slog"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
)

// causeDrone is what the counter of sweeps calls a lost drone; the others are the store's.
const causeDrone = "drone-lost"

// sweep does what time brings about, for drones and for backends: backends that lost their
// lease, did not start, did not go or are past a limit (I6), and drones that are lost; more says that there
// were more of them than one look takes. All workers do it, and none does what another has begun.
func (w *worker) sweep(ctx context.Context) (more bool, err error) {
	// The drones first: for a lost one's backends no action is written.
	lost, moreDrones, err := w.store.LostDrones(ctx)
	w.relay.Enqueue(lost)
	w.metrics.Swept(causeDrone, len(lost))
	w.purgeActions(ctx, lost)
	if err != nil {
		return false, err
	}
	swept, err := w.store.Sweep(ctx, w.cfg.StartWithin)
	w.relay.Enqueue(swept.Rows)
	for i := range swept.Done {
		w.metrics.Swept(string(swept.Done[i].Cause), 1)
		w.logSwept(ctx, &swept.Done[i])
	}
	return moreDrones || swept.Full, err
}

// purgeActions drops what waits for lost drones in the stream, where it would stay
// for minutes. Nothing depends on it.
func (w *worker) purgeActions(ctx context.Context, lost []outbox.Row) {
	for i := range lost {
		drone := lost[i].Drone
		w.log.Warn("a drone is lost", "drone", drone, "unheard_for", w.store.Terms().TTL)
		if err := bus.PurgeActions(ctx, w.js, drone); err != nil {
			w.log.Warn("cannot drop the actions of a lost drone", "drone", drone, "err", err)
		}
	}
}

func (w *worker) logSwept(ctx context.Context, d *store.Due) {
	level, what := slog.LevelWarn, ""
	switch d.Cause {
	case store.CauseLost:
		what = "a backend's lease has run out; it ends as lost"
	case store.CauseStart:
		what = "a backend was not ready in time; it is to be killed"
	case store.CauseGrace:
		what = "a backend did not end within its grace; it is to be killed"
	case store.CauseStuck:
		what = "a backend that was to be killed has not ended; its lease is renewed no more"
	case store.CauseLimit:
		level, what = slog.LevelInfo, "a backend is idle or past its lifetime; it is asked to end"
	}
	attrs := []any{"backend_id", d.BackendID, "drone", d.Drone}
	if d.Reason != "" && d.Cause != store.CauseLimit {
		attrs = append(attrs, "reason", d.Reason)
	}
	w.log.Log(ctx, level, what, attrs...)
}
