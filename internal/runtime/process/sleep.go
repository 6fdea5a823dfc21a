package process

import (
	"context"
	"errors"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Sleeps says that backends can be put to sleep: wherever they can be run.
func (r *Runtime) Sleeps() bool { return true }

var _ runtime.Reclaimer = (*Instance)(nil)

// Sleep freezes all of the backend where it is. woken is called once, should somebody else have it go on.
func (i *Instance) Sleep(_ context.Context, woken func()) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return errors.New("the process has ended")
	}
	i.relieve()
	i.asleep = true
	var err error
	i.sentry, err = i.body.freeze(woken)
	return err
}

// Wake has all of it go on; nothing where it does.
func (i *Instance) Wake(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return nil
	}
	i.asleep = true // also if somebody else has frozen it
	return i.wake()
}

// wake has it go on, if it may be frozen; under mu.
func (i *Instance) wake() error {
	i.relieve()
	if !i.asleep {
		return nil
	}
	err := i.body.thaw()
	i.asleep = err != nil
	return err
}

// Reclaim has the kernel hand back up to so many bytes of its memory, and says how many it got, and whether there may be more.
func (i *Instance) Reclaim(_ context.Context, bytes uint64) (got uint64, more bool, err error) {
	return i.body.reclaim(bytes)
}

// relieve ends the watch for who else has it go on; under mu.
func (i *Instance) relieve() {
	i.sentry.stand(i.owner.poller)
	i.sentry = sentry{}
}
