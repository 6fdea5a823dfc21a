package drone

import (
	"context"

	"github.com/jetway-project/jetway/internal/runtime"
)

// cannot says why no spawns are taken, as far as it is not for the bus to say, or "".
func (a *agent) cannot() string {
	if why := a.memory.unable(); why != "" {
		return why
	}
	if remote, ok := a.rt.(runtime.Remote); ok {
		if _, away := remote.Away(); away != nil {
			return away.Error()
		}
	}
	return ""
}

// attend has the workers told whenever who runs the backends goes away, or comes back, until ctx ends.
func (a *agent) attend(ctx context.Context) {
	remote, ok := a.rt.(runtime.Remote)
	for ok {
		changed, _ := remote.Away()
		nudge(a.kick) // only now: what changes from here on is seen
		select {
		case <-changed:
			a.mu.Lock()
			if a.statedSleeps != a.sleeps() {
				a.registerAgainLocked()
			}
			a.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}
