package drone

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// Times of sleep.
const (
	// aloneBeats is how many heartbeats may go unanswered before all is thawed: as many as make the workers place nothing here any
	// more. Long before a lease ends, and short enough for who waits for a backend whose waking does not arrive.
	aloneBeats = 2
	// turnPatience bounds one asking of the runtime.
	turnPatience = 15 * time.Second
	// reclaimBytes is what is reclaimed at a time, once in reclaimEvery, of one backend at a time: what is awake needs the disk too.
	reclaimBytes = 16 << 20
	reclaimEvery = 250 * time.Millisecond
)

// sleep is what the drone knows of a backend's sleep; under the agent's lock. The zero value is awake, and was never asked to
// be anything else.
type sleep struct {
	// nap is the greatest that an action has asked for: the backend is to be asleep where it is odd, unless the drone doubts it. When in
	// doubt, awake: what the drone does not know, or does not hear, wakes a backend, and only a later nap puts it to sleep again.
	nap   int64
	doubt bool
	rest  rest
	// turning says that somebody is having it become what it is to be.
	turning bool
	// reclaimed is how much memory the machine got back in this nap.
	reclaimed int64
}

// rest is whether a backend is frozen.
type rest int

const (
	awake rest = iota
	// unsure: it may be. The journal has it so from before it is frozen until it is known to be thawed.
	unsure
	asleep
)

// toSleep says whether h is to be asleep. What starts is not, nor what ends.
func (h *held) toSleep() bool {
	return messages.AsleepAt(h.nap) && !h.doubt && h.status == messages.Ready && h.instance != nil
}

// napNow is what the workers are told of the sleep.
func (h *held) napNow() messages.Nap {
	return messages.Nap{Nap: h.nap, Asleep: h.rest == asleep && h.toSleep(), ReclaimedBytes: h.reclaimed}
}

// sleeps says whether the runtime can put backends to sleep.
func (a *agent) sleeps() bool {
	rt, ok := a.rt.(runtime.Sleeping)
	return ok && rt.Sleeps()
}

// aloneLocked says that no worker has been heard for so long that a wake may not arrive.
func (a *agent) aloneLocked(nowMS int64) bool {
	return a.renewedAtMS == 0 || nowMS-a.renewedAtMS > aloneBeats*a.session.interval.Milliseconds()
}

// napLocked takes a nap in that an action asks for. Only a greater one changes anything, so it does not matter in which order
// they come, nor how often (I3). Of all others the workers are told once more what is: their database may have forgotten it.
func (a *agent) napLocked(ctx context.Context, h *held, nap int64) {
	if nap > h.nap || mutant.On(mutant.OldNap) && nap != h.nap {
		h.nap, h.reclaimed = nap, 0
		h.doubt = a.leaving || a.aloneLocked(a.nowMS())
		a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record()}, messages.State{})
	}
	a.turnLocked(ctx, h)
}

// rouseLocked wakes a backend by the drone's own choice, if it is to be asleep.
func (a *agent) rouseLocked(ctx context.Context, h *held) (roused bool) {
	if !h.toSleep() {
		return false
	}
	h.doubt = true
	a.turnLocked(ctx, h)
	return true
}

// rouseAllLocked wakes all that sleeps.
func (a *agent) rouseAllLocked(ctx context.Context) (roused int) {
	for _, h := range a.backends {
		if a.rouseLocked(ctx, h) {
			roused++
		}
	}
	return roused
}

// turnLocked has a backend become what it is to be, and the workers told.
func (a *agent) turnLocked(ctx context.Context, h *held) {
	if h.turning {
		return
	}
	h.turning = true
	a.turns.Add(1)
	a.wg.Go(func() {
		defer a.turns.Done()
		a.turn(ctx, h)
	})
}

// turn freezes and thaws, one after the other, until the backend is what it is to be.
func (a *agent) turn(ctx context.Context, h *held) {
	tries := pause.Growing(100*time.Millisecond, 5*time.Second)
	for {
		instance, to := a.nextTurn(h)
		if instance == nil {
			return
		}
		err := a.ask(ctx, h, instance, to)
		a.mu.Lock()
		switch {
		case err == nil:
			h.rest = to
		case to == asleep:
			h.doubt = true // whatever came of it, it is awake from here on
		}
		a.mu.Unlock()
		if err == nil {
			continue
		}
		a.log.WarnContext(ctx, "cannot put a backend to sleep, or wake it; it is to be awake", "backend_id", h.id, "sleep", to == asleep, "err", err)
		if to == awake && !pauseOf(ctx, instance, tries.NextBackOff()) {
			return // the next run goes on, or there is nothing to wake
		}
	}
}

// nextTurn gives what is to be done next to an instance; nil: nothing, and the workers are told so.
func (a *agent) nextTurn(h *held) (instance runtime.Sleeper, to rest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.backends[h.id] != h { // it has ended
		return nil, awake
	}
	instance, able := h.instance.(runtime.Sleeper)
	if h.toSleep() {
		to = asleep
	}
	if !able && to == asleep {
		h.doubt, to = true, awake
	}
	if h.rest != to && able {
		if to == asleep {
			h.rest = unsure
			a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record()}, messages.State{})
		}
		return instance, to
	}
	h.turning = false
	a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record()}, messages.State{Status: h.status})
	if reclaimer, ok := h.instance.(runtime.Reclaimer); ok && to == asleep && h.reclaimed == 0 {
		nap := h.nap
		a.wg.Go(func() { a.reclaim(h, reclaimer, nap) })
	}
	return nil, to
}

// ask has the runtime freeze or thaw.
func (a *agent) ask(ctx context.Context, h *held, instance runtime.Sleeper, to rest) error {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	if to == awake {
		return instance.Wake(ctx)
	}
	return instance.Sleep(ctx, func() { a.stirred(h) })
}

// stirred hears that somebody else has thawed a backend.
func (a *agent) stirred(h *held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.backends[h.id] == h && !a.leaving {
		a.rouseLocked(a.work, h)
	}
}

// pauseOf waits, and says whether the instance is still there.
func pauseOf(ctx context.Context, instance runtime.Instance, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-instance.Done():
	case <-ctx.Done():
	}
	return false
}

// reclaim has the machine get memory back of a backend that sleeps, a little at a time, as long as there is some and the nap lasts.
func (a *agent) reclaim(h *held, instance runtime.Reclaimer, nap int64) {
	ctx := a.work
	select {
	case a.reclaiming <- struct{}{}:
		defer func() { <-a.reclaiming }()
	case <-ctx.Done():
		return
	}
	lasts := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.backends[h.id] == h && h.nap == nap && h.napNow().Asleep
	}
	var total uint64
	var err error
	for more := true; more && err == nil && lasts(); {
		var got uint64
		got, more, err = instance.Reclaim(ctx, reclaimBytes)
		if total += got; more && !pauseOf(ctx, instance, reclaimEvery) {
			return
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.WarnContext(ctx, "cannot have the memory of a sleeping backend handed back", "backend_id", h.id, "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if total > 0 && a.backends[h.id] == h && h.nap == nap && h.napNow().Asleep {
		h.reclaimed = int64(min(total, maxReclaimed))
		a.retellLocked(h)
	}
}

// maxReclaimed is what a report may say.
const maxReclaimed = 1 << 50

// retellLocked tells the workers of a sleep what the journal need not keep: the next run tells it anyway.
func (a *agent) retellLocked(h *held) {
	state := messages.State{Status: h.status}
	if h.status == messages.Ready {
		state.Address = h.address
	}
	a.reports.add(*traced(messages.Report{BackendID: h.id, State: state, Nap: h.napNow()}, h.trace), 0)
}

// retellNapsLocked tells, after a registration, what the workers' database may have forgotten: that something sleeps, and when a session
// begins, all naps.
func (a *agent) retellNapsLocked(begins bool) {
	for _, h := range a.backends {
		if h.nap == 0 || h.turning || h.disowned || !begins && h.rest == awake {
			continue
		}
		if !a.reports.has(h.id) { // what is said last is said with its nap
			a.retellLocked(h)
		}
	}
}
