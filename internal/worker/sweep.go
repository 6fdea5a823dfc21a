package worker

import (
	"context"
	"log/slog"
	"time"

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
	if err := w.look(ctx); err != nil {
		return false, err
	}
	// The sessions first: what they take with them needs nothing else.
	expired, err := w.store.Expire(ctx)
	w.relay.Enqueue(expired.Drones)
	w.relay.Enqueue(expired.Rows)
	w.metrics.Swept(causeDrone, len(expired.Drones))
	w.purgeActions(ctx, expired.Drones)
	w.noteSwept(ctx, expired.Done)
	if err != nil {
		return false, err
	}
	swept, err := w.store.Sweep(ctx, w.cfg.StartWithin)
	w.enqueue(swept.Rows)
	w.noteSwept(ctx, swept.Done)
	return expired.Full || swept.Full, err
}

// look reads what all workers must agree on, and compares the clocks.
func (w *worker) look(ctx context.Context) error {
	before := w.store.Terms()
	jump, err := w.store.Look(ctx)
	if err != nil {
		return err
	}
	if terms := w.store.Terms(); terms != before {
		w.log.Warn("leases live longer or shorter from now on", "lease_ttl", terms.TTL, "before", before.TTL)
	}
	if jump != 0 {
		w.log.Error("the database's clock has jumped: nothing is taken over or called lost for as long as a lease lives",
			"by", jump.Round(time.Millisecond), "for", w.store.Terms().TTL)
	}
	return nil
}

func (w *worker) noteSwept(ctx context.Context, done []store.Due) {
	for i := range done {
		w.metrics.Swept(string(done[i].Cause), 1)
		w.logSwept(ctx, &done[i])
	}
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
	case store.CauseLifetime:
		level, what = slog.LevelInfo, "a backend is past its lifetime; it is asked to end"
	case store.CauseDrained:
		level, what = slog.LevelInfo, "a backend is still on a drone whose drain is over; it is asked to end"
	case store.CauseAsleep:
		level, what = slog.LevelDebug, "nobody has been connected to a backend for some time; it is put to sleep"
	case store.CauseIdle:
		level, what = slog.LevelInfo, "nobody has been connected to a backend for too long; it is asked to end"
	}
	attrs := []any{"backend_id", d.BackendID, "drone", d.Drone}
	if d.Reason != "" && level == slog.LevelWarn {
		attrs = append(attrs, "reason", d.Reason)
	}
	w.log.Log(ctx, level, what, attrs...)
}
