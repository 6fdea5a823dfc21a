package drone

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
)

const (
	// kickRest lies between two heartbeats at least, changeRest between one and the
	// next of those that only say how many backends there are.
	kickRest   = 50 * time.Millisecond
	changeRest = time.Second
	// maxStep is by how many backends the number that the workers know may be wrong.
	maxStep = 16
	// unableFor is how long a drone takes no spawns before its log says so: at each start of the agent it is a moment until a
	// guard stands, and so it is after the end of one. The workers hear at once.
	unableFor = 5 * time.Second
)

// errUnregistered says that no worker has answered a registration of the session.
var errUnregistered = errors.New("no worker has registered this session yet")

// lease is until when backends may live, in the drone's time. All that a session holds
// share one, which a renewal puts off for all of them at once; what is sealed, and what no
// registration of this session has named yet, has the one that it had before.
type lease struct{ softAtMS, hardAtMS int64 }

// renew puts deadlines off. They count from a drone time stated before the lease was
// written, and never go back (I1).
func (l *lease) renew(d messages.Deadlines) {
	l.softAtMS = max(l.softAtMS, d.SoftTerminateAtMS)
	l.hardAtMS = max(l.hardAtMS, d.HardTerminateAtMS)
}

func (l *lease) dueMS() int64 { return min(l.softAtMS, l.hardAtMS) }

// keepLease heartbeats until ctx ends, on its own schedule, whatever becomes of
// registrations meanwhile.
func (a *agent) keepLease(ctx context.Context) {
	var sent time.Time
	due, announced := time.Now(), false
	timer := time.NewTimer(0)
	defer timer.Stop()
	tries := pause.Growing(250*time.Millisecond, 2*time.Second)
	for {
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
			due = earlier(due, sent.Add(kickRest))
			continue
		case <-a.changed:
			due = earlier(due, sent.Add(changeRest))
			continue
		case <-timer.C:
		}
		sent = time.Now()
		ready, err := a.heartbeat(ctx)
		a.countBeat(err)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, nats.ErrConnectionClosed):
			a.fail(err)
			return
		case err == nil, errors.Is(err, errUnregistered): // which kicks when it is answered
			tries.Reset()
			due = time.Now().Add(a.interval())
		default:
			wait := min(tries.NextBackOff(), a.interval())
			a.log.WarnContext(ctx, "cannot renew the lease, trying again", "in", wait.Round(time.Millisecond), "err", err)
			due = time.Now().Add(wait)
		}
		if ready && !announced {
			announced = true
			a.cfg.OnReady()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// heartbeat says that the drone lives, and renews the session's lease: one message,
// whatever is held. ready is what a worker has heard of taking spawns.
func (a *agent) heartbeat(ctx context.Context) (ready bool, err error) {
	select { // one after the other, so that what is said last holds
	case a.beating <- struct{}{}:
		defer func() { <-a.beating }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	why := a.unable(ctx)
	kept := a.spareStates()
	a.mu.Lock()
	if !a.known.Load() {
		a.mu.Unlock()
		return false, errUnregistered
	}
	id, load := a.session.id, a.loadLocked()
	a.stated = load.Backends
	ready = a.session.consuming && !a.stopping && why == ""
	if a.leaving {
		why = messages.AgentStopped + time.Now().UTC().Format(time.RFC3339)
	}
	arrived := len(a.session.unsure)
	a.mu.Unlock()

	request, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	// The drone's time is read before it is sent, so that what the workers count from it
	// comes too early rather than too late (I1). It tells heartbeats apart, too: the answer's deadlines are those of the time
	// that was stated, to whichever message it is, and what is said earlier and comes later changes nothing.
	resp, err := bus.RequestAgain[messages.HeartbeatResponse](request, a.nc, messages.HeartbeatSubject(a.cfg.Name), messages.HeartbeatRequest{
		Session: id, DroneTimeMS: a.nowMS(), Ready: ready, NotReady: oneLine(why, messages.MaxNotReady), Load: load, Spares: kept,
	})
	if messages.KindOf(err) == messages.NotFound {
		a.needSession(id)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	if a.session.id != id { // it was found to be over meanwhile
		a.mu.Unlock()
		return false, nil
	}
	a.renewed.Store(true)
	err = a.settleLocked(resp.Renewal, nil)
	sure := a.sureLocked(arrived)
	if a.session.beats++; a.session.beats >= compareEvery {
		a.registerAgainLocked()
	}
	a.mu.Unlock()
	a.acknowledge(ctx, sure...)
	a.knowTemplates(resp.TemplatesRevision, false)
	a.spares.Hold(resp.Draining) // they end first
	a.logUntold(ctx, err)
	return ready, nil
}

// unable says why no spawns are taken, and logs it where it lasts. One heartbeat asks at a time.
func (a *agent) unable(ctx context.Context) string {
	why := a.cannot()
	switch {
	case why == "":
		if a.complained {
			a.log.InfoContext(ctx, "backends are taken again")
		}
		a.unableSince, a.complained = time.Time{}, false
	case a.unableSince.IsZero():
		a.unableSince = time.Now()
	case !a.complained && time.Since(a.unableSince) >= unableFor:
		a.log.WarnContext(ctx, "no backends are taken; what runs goes on", "err", why)
		a.complained = true
	}
	return why
}

// settleLocked does what a renewal says. Its deadlines count from the time stated in the
// very request that it answers, and are those of all that the session holds: of what it
// held before, and of what a registration of it has just named. What is sealed keeps the
// deadlines that it had, and is not started any more if it was not.
func (a *agent) settleLocked(r messages.Renewal, named []string) error {
	for _, id := range r.Sealed {
		if h := a.backends[id]; h != nil {
			a.sealLocked(h)
		} else {
			a.rememberLocked(id)
		}
	}
	a.session.lease.renew(r.Deadlines)
	a.renewedAtMS, a.unanswered = a.nowMS(), nil
	for _, id := range named {
		if h := a.backends[id]; h != nil && !h.sealed {
			h.lease = a.session.lease
		}
	}
	return a.renewLocked()
}

// logUntold says that the guard could not be told of a renewal.
func (a *agent) logUntold(ctx context.Context, err error) {
	if err != nil {
		a.log.ErrorContext(ctx, "cannot write the renewed lease down: the guard goes by the one before", "err", err)
	}
}

// sealLocked has a backend keep the deadlines that it has now, also for the guard.
func (a *agent) sealLocked(h *held) {
	if h.sealed || mutant.On(mutant.SealedRenewed) {
		return
	}
	own := *h.lease
	h.lease, h.sealed = &own, true
	a.unsealed = true
	a.memory.journal.Note(journal.Change{BackendID: h.id, State: h.record()})
}
