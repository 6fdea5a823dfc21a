package docker

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Sleeps says that the engine can pause containers: a user's Podman can not where only root may freeze.
func (r *Runtime) Sleeps() bool { return !r.boundless }

var _ runtime.Reclaimer = (*Instance)(nil)

// Sleep pauses the container. woken is called once, should somebody else unpause it.
func (i *Instance) Sleep(ctx context.Context, woken func()) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	i.woken.Store(&woken)
	_, err := i.r.engine.ContainerPause(ctx, i.id, client.ContainerPauseOptions{})
	if err == nil {
		return nil
	}
	if found, lookErr := i.r.inspect(ctx, i.id); lookErr == nil && paused(found) { // somebody has paused it
		return nil
	}
	return fmt.Errorf("pause the container: %w", plain(err))
}

// Wake has it go on. One that is not paused, or has ended, is no error.
func (i *Instance) Wake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	i.woken.Store(nil)
	_, err := i.r.engine.ContainerUnpause(ctx, i.id, client.ContainerUnpauseOptions{})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	// Engines have many words for one that is not paused.
	if found, lookErr := i.r.inspect(ctx, i.id); errdefs.IsNotFound(lookErr) || lookErr == nil && !paused(found) {
		return nil
	}
	return fmt.Errorf("unpause the container: %w", plain(err))
}

// Reclaim has the kernel hand back up to so many bytes of its memory, and says how many it got, and whether there may be more.
func (i *Instance) Reclaim(_ context.Context, bytes uint64) (got uint64, more bool, err error) {
	if i.process == nil {
		return 0, false, nil
	}
	return i.process.Reclaim(bytes)
}

// lookForWoken looks whether somebody has unpaused what sleeps, while no events were heard.
func (r *Runtime) lookForWoken() {
	r.mu.Lock()
	var asleep []*Instance
	for _, i := range r.live {
		if i.woken.Load() != nil {
			asleep = append(asleep, i)
		}
	}
	r.mu.Unlock()
	for _, i := range asleep {
		i.lookForWoken()
	}
}

// lookForWoken tells that somebody has unpaused it, if it is so: the event of its own waking may come after it fell asleep again.
func (i *Instance) lookForWoken() {
	if found, err := i.r.inspect(i.r.ctx, i.id); err != nil || !running(found) || paused(found) {
		return
	}
	if woken := i.woken.Swap(nil); woken != nil {
		(*woken)()
	}
}

// sendSignal has the engine send a signal to a container, and thaw it if it is paused: what is frozen in a group of v1 does not even
// end before. Podman signals nothing that is paused.
func sendSignal(ctx context.Context, engine *client.Client, id, signal string) error {
	_, err := engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	if err != nil && !errdefs.IsConflict(err) {
		return err
	}
	_, thawErr := engine.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}) // refused unless it is paused
	if err != nil && thawErr == nil {
		_, err = engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	}
	return err
}
