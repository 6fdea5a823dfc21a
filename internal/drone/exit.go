package drone

import (
	"context"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// OnExit says what becomes of the backends when the agent is told to stop.
type OnExit string

const (
	// Leave has them run on, for the next run of the agent to take over. Without a
	// data directory, or where the runtime is no runtime.Adopter, it is End.
	Leave OnExit = "leave"
	// Drain waits until the last has ended by itself, taking no new ones.
	Drain OnExit = "drain"
	// End ends them, softly first.
	End OnExit = "end"
)

const (
	// leaveTimeout bounds what the agent does before it leaves its backends.
	leaveTimeout = 10 * time.Second
	// reportPatience is how long an exit waits for workers that take nothing more.
	reportPatience = 5 * time.Second
)

// hurryTimeout is what a drain that is cut short leaves for ending. Tests, which see what becomes of
// it, have more.
var hurryTimeout = 1500 * time.Millisecond

// onExit is what the configuration comes to with a runtime.
func (c Config) onExit(rt runtime.Runtime) OnExit {
	if _, adopts := rt.(runtime.Adopter); c.OnExit == Leave && (!adopts || c.DataDir == "") {
		return End
	}
	return c.OnExit
}

// exit does what is to be done before Run returns. Heartbeats go on meanwhile, and so do
// terminations of single backends, unless they are left; spawns are refused.
func (a *agent) exit(work context.Context) error {
	a.spares.Stop()
	if a.cfg.MachineStops() {
		// Nothing that runs outlives the machine: whoever is connected is told now, and not when the lease has run out.
		a.log.InfoContext(work, "the machine is being shut down")
		return a.end(work, a.cfg.ShutdownTimeout, a.cfg.Hurry, endAsked{reason: messages.ReasonExternal, cause: messages.CauseMachine, message: machineDown})
	}
	switch a.cfg.onExit(a.rt) {
	case Leave:
		a.leave(work)
		return nil
	case Drain:
		return a.drain(work)
	default:
		return a.end(work, a.cfg.ShutdownTimeout, a.cfg.Hurry, asShutDown)
	}
}

// stopBeginning begins nothing more: what is not begun yet is the next run's.
func (a *agent) stopBeginning() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping, a.leaving = true, true
	for _, h := range a.backends {
		if !h.begun {
			h.abort()
		}
	}
}

// leave makes an end of what is under way, and of what can be told.
func (a *agent) leave(work context.Context) {
	ctx, cancel := context.WithTimeout(work, leaveTimeout)
	defer cancel()
	a.stopBeginning()
	a.mu.Lock()
	a.rouseAllLocked(work) // nobody could wake it before the next run
	a.mu.Unlock()
	launched := make(chan struct{})
	a.wg.Go(func() {
		a.launching.Wait()
		a.turns.Wait()
		close(launched)
	})
	// The leases are to last until the next run, and nothing is to be placed here.
	if _, err := a.heartbeat(ctx); err != nil {
		a.log.WarnContext(ctx, "cannot renew the leases once more", "err", err)
	}
	select {
	case <-launched:
	case <-ctx.Done(): // the next run looks for them by their labels
		a.log.WarnContext(work, "some starts, or wakings of what slept, are still under way")
	}
	unreported := a.flushReports(ctx)
	a.log.InfoContext(work, "leaving the backends to the next run of the agent", "backends", a.holds(), "unreported", unreported)
}

// flushReports waits until the workers know all, while they take some of it, and says of
// how many backends they do not.
func (a *agent) flushReports(ctx context.Context) (unreported int) {
	drained := a.reports.drained()
	patience := time.NewTicker(reportPatience)
	defer patience.Stop()
	for left := a.reports.unanswered(); ; {
		select {
		case <-drained:
			return 0
		case <-patience.C:
			was := left
			if left = a.reports.unanswered(); left < was {
				continue
			}
		case <-a.fatal: // nobody hears any more
		case <-ctx.Done():
		}
		return len(a.reports.pending())
	}
}

// drain waits until no backend is left, and ends them when that takes too long or
// is too long for somebody.
func (a *agent) drain(work context.Context) error {
	fewer := a.refuseSpawns()
	var tooLong <-chan time.Time
	if a.cfg.DrainTimeout > 0 {
		timer := time.NewTimer(a.cfg.DrainTimeout)
		defer timer.Stop()
		tooLong = timer.C
	}
	for said := -1; ; {
		left := a.holds()
		if left == 0 {
			break
		}
		if left != said {
			said = left
			a.log.InfoContext(work, "draining, the agent ends when no backend is left", "left", left)
		}
		select {
		case <-fewer:
		case <-tooLong:
			a.log.WarnContext(work, "draining took too long, ending the backends", "left", left, "timeout", a.cfg.DrainTimeout)
			return a.end(work, a.cfg.ShutdownTimeout, a.cfg.Hurry, asShutDown)
		case <-a.cfg.Hurry:
			return a.end(work, hurryTimeout, nil, asShutDown)
		}
	}
	a.log.InfoContext(work, "drained")
	ctx, cancel := context.WithTimeout(work, a.cfg.ShutdownTimeout)
	defer cancel()
	if n := a.flushReports(ctx); n > 0 {
		return fmt.Errorf("drain: no worker has taken the end of %d backends", n)
	}
	return nil
}

// refuseSpawns takes no more spawns, and gives a channel that is nudged when there is
// a backend less.
func (a *agent) refuseSpawns() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	if a.onFewer == nil {
		a.onFewer = make(chan struct{}, 1)
	}
	nudge(a.kick) // to say so
	return a.onFewer
}

// end ends all backends, softly first and at once when hurry is closed, and waits until
// the workers know. It takes at most timeout; what has not ended then is an error.
func (a *agent) end(work context.Context, timeout time.Duration, hurry <-chan struct{}, why endAsked) error {
	ctx, cancel := context.WithTimeout(work, timeout)
	defer cancel()
	a.log.InfoContext(work, "shutting down, ending the backends")
	fewer := a.refuseSpawns()
	a.endAll(work, min(a.cfg.Grace, timeout*2/3), why)
	for a.holds() > 0 {
		select {
		case <-fewer:
		case <-hurry:
			hurry = nil
			a.killAll(work)
		case <-ctx.Done():
			return fmt.Errorf("shut down: %d backends have not ended within %s", a.holds(), timeout)
		}
	}
	// A worker that is away now hears of it from the next run, if there is a journal;
	// else it ends what it believes to run when the drone comes back or stays away.
	if n := a.flushReports(ctx); n > 0 {
		return fmt.Errorf("shut down: no worker has taken the end of %d backends", n)
	}
	return nil
}

const (
	shutDown    = "the drone was shut down"
	machineDown = "the machine that it ran on was shut down"
)

var asShutDown = endAsked{reason: messages.ReasonExternal, cause: messages.CauseShutdown, message: shutDown}

// endAll asks every backend to end.
func (a *agent) endAll(ctx context.Context, grace time.Duration, why endAsked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.graceMS = grace.Milliseconds()
	killAtMS := a.nowMS() + a.graceMS
	for _, h := range a.backends {
		a.applyLocked(ctx, h, why)
		if h.graceAtMS != 0 {
			h.graceAtMS = min(h.graceAtMS, killAtMS)
			a.dueLocked(h.graceAtMS)
		}
	}
}

func (a *agent) killAll(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.backends {
		a.applyLocked(ctx, h, endAsked{hard: true})
	}
}
