package socket

import (
	"context"

	"github.com/jetway-project/jetway/internal/runtime"
)

var (
	_ runtime.Sleeping = (*Runtime)(nil)
	_ runtime.Sleeper  = (*Instance)(nil)
)

// Sleeps says that the server has said, with its last listing, that it can put backends to sleep.
func (r *Runtime) Sleeps() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sleeps
}

// setSleeps notes whether it can, and has the drone told if that has changed.
func (r *Runtime) setSleeps(sleeps bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sleeps != sleeps {
		r.sleeps = sleeps
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// Sleep asks the server to put it to sleep. woken is called once, should the server say that it is awake.
func (i *Instance) Sleep(ctx context.Context, woken func()) error {
	i.woken.Store(&woken)
	return i.turn(ctx, "sleep")
}

// Wake asks the server to wake it; nothing where it does not run.
func (i *Instance) Wake(ctx context.Context) error {
	i.woken.Store(nil)
	if runtime.Over(i.done) {
		return nil
	}
	return i.turn(ctx, "wake")
}

func (i *Instance) turn(ctx context.Context, what string) error {
	var answer struct{}
	return i.r.client.soon(ctx, what, several{Drone: i.r.config.Drone, BackendIDs: []string{i.id}}, &answer)
}

// wasWoken tells that the server says that it is awake.
func (i *Instance) wasWoken() {
	if woken := i.woken.Swap(nil); woken != nil {
		i.r.goOn(*woken)
	}
}
