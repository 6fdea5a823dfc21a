package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// errNoSleep is what comes of the checks of sleep where the drone does not say that it can: the workers never ask it to.
const errNoSleep = unseenError("it does not put backends to sleep: it registers without sleeps")

// nap tells the drone that a backend falls asleep, or wakes.
func (b *droneBench) nap(ctx context.Context, id string, nap int64) error {
	return b.act(ctx, messages.NewNapAction(id, time.Now(), nap))
}

// napped waits until the drone says that a backend has a nap, and whether it sleeps.
func (b *droneBench) napped(ctx context.Context, id string, want messages.Nap) error {
	var last messages.Nap
	if b.until(ctx, func() bool {
		last = b.of(id).nap
		return last.Nap == want.Nap && last.Asleep == want.Asleep
	}) {
		return nil
	}
	return errNot(b.wait, "a report that %s has the nap %d, %s; the last one says %d, %s", id, want.Nap, napText(want), last.Nap, napText(last))
}

func napText(n messages.Nap) string {
	if n.Asleep {
		return "asleep"
	}
	return "awake"
}

// sleeps has a backend run, and sleep.
func (b *droneBench) sleeps(ctx context.Context, id string) error {
	b.mu.Lock()
	able := slices.ContainsFunc(b.registrations, func(r registration) bool { return r.answered && r.Sleeps })
	b.mu.Unlock()
	if !able {
		return errNoSleep
	}
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	if err := b.nap(ctx, id, 1); err != nil {
		return err
	}
	return b.napped(ctx, id, messages.Nap{Nap: 1, Asleep: true})
}

// isFrozen says that nobody answers at a backend's address, where it has one, though it has not ended.
func (b *droneBench) isFrozen(ctx context.Context, id string) error {
	if _, known := b.answers(ctx, id); known && !b.polled(ctx, b.wait, func(ctx context.Context) bool {
		answers, _ := b.answers(ctx, id)
		return !answers && ctx.Err() == nil
	}) {
		return fmt.Errorf("%s is reported asleep, and answers at its address", id)
	}
	if err := b.heartbeats(ctx, 1); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if status := b.of(id).status(); status != messages.Ready {
		return fmt.Errorf("%s was to sleep as it is, and is %s", id, status)
	}
	return nil
}

// isAwake says that a backend answers, where it has an address.
func (b *droneBench) isAwake(ctx context.Context, id string) error {
	if _, known := b.answers(ctx, id); known && !b.polled(ctx, b.wait, func(ctx context.Context) bool {
		answers, _ := b.answers(ctx, id)
		return answers
	}) {
		return errNot(b.wait, "%s answers at its address: it was to be awake", id)
	}
	return nil
}

func (b *droneBench) fallsAsleep(ctx context.Context) error {
	id := b.newID("nap")
	if err := b.sleeps(ctx, id); err != nil {
		return err
	}
	return b.isFrozen(ctx, id)
}

func (b *droneBench) wakes(ctx context.Context) error {
	id := b.newID("nap")
	if err := b.nap(ctx, id, 2); err != nil {
		return err
	}
	return errors.Join(b.napped(ctx, id, messages.Nap{Nap: 2}), b.isAwake(ctx, id))
}

// ignoresOldNaps sends naps late, and out of their order.
func (b *droneBench) ignoresOldNaps(ctx context.Context) error {
	id := b.newID("nap")
	for _, nap := range []int64{1, 4, 3} { // of a backend that has the nap 2
		if err := b.nap(ctx, id, nap); err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	return errors.Join(b.napped(ctx, id, messages.Nap{Nap: 4}), b.isAwake(ctx, id), b.faultless("old-nap"))
}

// repeatsNaps forgets the session, and with it all naps, as after a restore of the database.
func (b *droneBench) repeatsNaps(ctx context.Context) error {
	id := b.newID("nap")
	if err := b.nap(ctx, id, 5); err != nil {
		return err
	}
	if err := b.napped(ctx, id, messages.Nap{Nap: 5, Asleep: true}); err != nil {
		return err
	}
	b.set(func() {
		b.session = "forgotten for its naps"
		b.of(id).nap = messages.Nap{}
	})
	if !b.until(ctx, func() bool { return b.of(id).nap.Nap == 5 }) {
		return errNot(b.wait, "a report of the nap of %s, which is 5, in the session that it began", id)
	}
	// It may have woken it, when in doubt; it says which.
	return nil
}

func (b *droneBench) endsSleeping(ctx context.Context) error {
	id := b.newID("nap")
	if err := b.nap(ctx, id, 7); err != nil {
		return err
	}
	if err := b.napped(ctx, id, messages.Nap{Nap: 7, Asleep: true}); err != nil {
		return err
	}
	if err := b.terminate(ctx, id, false); err != nil {
		return err
	}
	if _, err := b.ended(ctx, id, messages.ReasonExternal); err != nil {
		return err
	}
	if answers, known := b.answers(ctx, id); known && answers {
		return fmt.Errorf("%s is reported terminated, and still answers at its address", id)
	}
	return nil
}

// napLocked takes in what a report says of sleep.
func (b *droneBench) napLocked(r *messages.Report, k *backend) {
	if r.Nap.Nap < k.nap.Nap && r.Status < messages.Terminating {
		b.faultLocked("old-nap", "%s is reported with the nap %d after %d", r.BackendID, r.Nap.Nap, k.nap.Nap)
	}
	if r.Nap.Nap > 0 {
		k.nap = r.Nap
	}
}
