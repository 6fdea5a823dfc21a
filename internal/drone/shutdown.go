package drone

import (
	"context"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// shutdown ends all backends, softly first, and waits until the workers know. It
// takes at most the configured time; what has not ended then is an error. Heartbeats
// and terminations of single backends go on meanwhile, spawns are refused.
func (a *agent) shutdown(work context.Context) error {
	ctx, cancel := context.WithTimeout(work, a.cfg.ShutdownTimeout)
	defer cancel()
	a.log.InfoContext(ctx, "shutting down, ending the backends")
	select {
	case <-a.endAll(work):
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("shut down: %d backends have not ended within %s", len(a.backends), a.cfg.ShutdownTimeout)
	}
	// A worker that is away now hears nothing more of this run: it ends what it
	// believes to run when the drone comes back or stays away.
	reports, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case <-a.reports.drained():
		return nil
	case <-reports.Done():
		return fmt.Errorf("shut down: no worker has taken the end of %d backends", len(a.reports.pending()))
	}
}

// endAll takes no more spawns, asks every backend to end, and gives a channel that
// is closed when none is left.
func (a *agent) endAll(ctx context.Context) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	a.grace = min(a.cfg.Grace, a.cfg.ShutdownTimeout*2/3)
	killAtMS := a.nowMS() + a.grace.Milliseconds()
	empty := make(chan struct{})
	if len(a.backends) == 0 {
		close(empty)
	} else {
		a.onEmpty = empty
	}
	for _, h := range a.backends {
		a.applyLocked(ctx, h, endAsked{reason: messages.ReasonExternal, message: "the drone was shut down"})
		if h.graceAtMS != 0 {
			h.graceAtMS = min(h.graceAtMS, killAtMS)
			a.dueLocked(h.graceAtMS)
		}
	}
	nudge(a.kick) // to say that the drone takes no spawns any more
	return empty
}
