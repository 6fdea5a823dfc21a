package docker

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// removeTries is how often the engine may refuse to remove a container. What is left then,
// the next agent finds.
const removeTries = 20

// removeLater removes a container that has ended, by its id or name, RemoveAfter from now. By
// Close it is left for the next agent.
func (r *Runtime) removeLater(id string) {
	r.goOn(func() {
		defer r.drop(id)
		tick := time.NewTicker(r.config.RemoveAfter)
		defer tick.Stop()
		for refused := 0; refused < removeTries; {
			select {
			case <-tick.C:
			case <-r.ctx.Done():
				return
			}
			err := r.remove(id)
			if err == nil {
				return
			}
			if _, answered := errors.AsType[*engineError](err); answered {
				refused++
			}
			r.config.Log.Warn("cannot remove a container that has ended", "container", id, "err", err)
		}
	})
}

// remove removes a container of this drone, with its anonymous volumes, by force: one that runs
// has been started again, and its lease is another's (I1). One that is not there is removed.
func (r *Runtime) remove(id string) error {
	found, err := r.inspect(r.ctx, id)
	if err == nil {
		ctx, cancel := context.WithTimeout(r.ctx, askTimeout)
		defer cancel()
		_, err = r.engine.ContainerRemove(ctx, found.ID, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
	}
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return plain(err)
}
