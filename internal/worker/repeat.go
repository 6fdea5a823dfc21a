package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/jetway-project/jetway/internal/store"
)

const (
	// roundTimeout bounds one round of what is done again and again.
	roundTimeout = 15 * time.Second
	// failedPause is the longest pause after rounds that failed.
	failedPause = 15 * time.Second
)

// repeat does one round after another until ctx ends, about every so often, and at once when the last
// one said that there is more. A round that has begun is finished also while the worker stops.
func (w *worker) repeat(ctx context.Context, what string, every time.Duration, round func(context.Context) (more bool, err error)) {
	// Spread, so that workers that were started together take turns.
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(every),
		backoff.WithMaxInterval(max(every, failedPause)), backoff.WithMaxElapsedTime(0))
	timer := time.NewTimer(pause.NextBackOff())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// Without the bus nobody could renew a lease by this worker nor hear of an end, a spawn withdrawn
		// could take a "scheduled" with it that is not published yet (I5), and what is on record may still be waited for.
		more, err := false, error(nil)
		if w.nc.IsConnected() {
			more, err = bounded(ctx, round)
			if older, ok := errors.AsType[*store.OlderDatabaseError](err); ok {
				err = w.migrateAgain(ctx, older)
			}
		}
		if err != nil {
			w.log.Warn("cannot "+what+", trying again", "err", err)
		} else if pause.Reset(); more {
			timer.Reset(0)
			continue
		}
		timer.Reset(pause.NextBackOff())
	}
}

func bounded(ctx context.Context, round func(context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTimeout)
	defer cancel()
	return round(ctx)
}

// migrateAgain brings a database to this version that was restored from before a migration while the worker runs. An empty one it
// leaves alone, for a restore may be under way. It takes as long as it takes; meanwhile requests are Unavailable.
func (w *worker) migrateAgain(ctx context.Context, older *store.OlderDatabaseError) error {
	w.log.Warn("the database was replaced by one of an earlier version: migrating it as at a start", "version", older.Database, "to", older.Binary)
	err := w.store.Migrate(ctx)
	if err == nil {
		w.log.Info("the database is migrated", "version", older.Binary)
	}
	return err
}
