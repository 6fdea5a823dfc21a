package worker

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
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
