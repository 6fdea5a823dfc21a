package drone

import (
	"context"
	"math"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/messages"
)

const (
	// never is a drone time that does not come.
	never = math.MaxInt64
	// keeperRest bounds how often the keeper goes through the backends, so that
	// its cost does not grow with the number of deadlines.
	keeperRest = 5 * time.Millisecond
)

// keep ends what is past a deadline, until ctx ends. It looks at the clock at least
// once a second: timers stand still in a suspend, the clock does not (I1).
func (a *agent) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		next := a.endDue(ctx)
		a.cfg.Alive()
		nap := boottime.MaxNap
		if next != never {
			nap = a.cfg.Clock.Nap(time.Duration(next) * time.Millisecond)
		}
		timer.Reset(max(nap, keeperRest))
	}
}

// endDue ends what is past a deadline and gives the time of the next look.
func (a *agent) endDue(ctx context.Context) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.nowMS()
	if a.aloneLocked(now) {
		if roused := a.rouseAllLocked(ctx); roused > 0 {
			a.wg.Go(func() {
				a.log.WarnContext(ctx, "no worker is heard: what sleeps is woken, since a visitor could not wake it", "backends", roused)
			})
		}
	}
	next := int64(never)
	for _, h := range a.backends {
		if h.status >= messages.HardTerminating {
			continue
		}
		switch {
		case now >= h.lease.hardAtMS:
			a.applyLocked(ctx, h, a.unrenewedLocked(h, true))
			continue
		case passed(now, h.graceAtMS):
			a.applyLocked(ctx, h, endAsked{hard: true})
			continue
		case passed(now, h.readyByMS):
			a.applyLocked(ctx, h, endAsked{hard: true, reason: messages.ReasonStartupTimeout, message: a.tardyText(h)})
			continue
		case now >= h.lease.softAtMS && h.status < messages.Terminating:
			a.applyLocked(ctx, h, a.unrenewedLocked(h, false))
		}
		a.progressLocked(h, now)
		next = min(next, h.dueMS())
	}
	// Not sooner than at the next regular look: a deadline that is put off by
	// renewals would otherwise wake the keeper for each spawn.
	if next != never {
		next = min(next, now+boottime.MaxNap.Milliseconds())
	}
	a.nextDueMS = next
	return next
}

func passed(now, deadlineMS int64) bool { return deadlineMS != 0 && now >= deadlineMS }

// dueMS is when something is to be done to h.
func (h *held) dueMS() int64 {
	due := h.lease.hardAtMS
	if h.status < messages.Terminating {
		due = h.lease.dueMS()
	}
	if h.graceAtMS != 0 {
		due = min(due, h.graceAtMS)
	}
	if h.readyByMS != 0 {
		due = min(due, h.readyByMS)
	}
	return due
}

// dueLocked has the keeper look no later than at a drone time.
func (a *agent) dueLocked(atMS int64) {
	if atMS < a.nextDueMS {
		a.nextDueMS = atMS
		nudge(a.wake)
	}
}
