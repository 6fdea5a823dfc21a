package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
)

const (
	// sweepTimeout bounds one look at what is due.
	sweepTimeout = 15 * time.Second
	// sweepPause is the longest pause after looks that failed.
	sweepPause = 15 * time.Second
	// causeDrone is what the counter of sweeps calls a lost drone; the others are the store's.
	causeDrone = "drone-lost"
)

// sweep does what time brings about, until ctx ends: backends that lost their lease,
// did not start, did not go or are past a limit (I6), and drones that are lost. All
// workers do it, and none does what another has begun.
func (w *worker) sweep(ctx context.Context) {
	// Spread, so that workers that were started together take turns.
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(w.cfg.SweepEvery),
		backoff.WithMaxInterval(max(w.cfg.SweepEvery, sweepPause)), backoff.WithMaxElapsedTime(0))
	timer := time.NewTimer(pause.NextBackOff())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		more, err := w.sweepOnce(ctx)
		if err != nil {
			w.log.Warn("cannot sweep, trying again", "err", err)
		} else if pause.Reset(); more {
			timer.Reset(0)
			continue
		}
		timer.Reset(pause.NextBackOff())
	}
}

// sweepOnce looks once at drones and at backends; more says that there were more of them
// than one look takes. What it has begun is finished also while the worker stops.
func (w *worker) sweepOnce(ctx context.Context) (more bool, err error) {
	if !w.nc.IsConnected() {
		// Nobody could renew by this worker nor hear of an end. A spawn withdrawn now could
		// take a "scheduled" with it that is not published yet (I5).
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
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
