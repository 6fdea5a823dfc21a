// Package pause is what roles do between two tries.
//
// It holds nothing: there is nothing to close.
package pause

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Growing are pauses that grow from the first to the longest, with some chance in them, so that not all who
// failed together try again together. They never end.
func Growing(first, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(first), backoff.WithMaxInterval(longest), backoff.WithMaxElapsedTime(0))
}

// Sleep waits, and says whether ctx goes on.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
