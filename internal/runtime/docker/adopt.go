package docker

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Adopt takes over the container that has the id in handle, or the backend's name.
func (r *Runtime) Adopt(ctx context.Context, spec runtime.Spec, handle string) (runtime.Instance, error) {
	if r.isClosed() {
		return nil, runtime.ErrClosed
	}
	id := handle
	if id == "" {
		id = containerName(spec.BackendID)
	}
	found, err := r.inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err), err == nil && (found.Config.Labels[labelBackend] != spec.BackendID || handle == "" && r.config.others(found.Config.Labels)):
		return r.past(spec, handle, runtime.Exit{Code: -1, Message: "its container is not there any more"}), nil
	case err != nil:
		return nil, fmt.Errorf("look for the container of backend %s: %w", spec.BackendID, plain(err))
	}
	if found.State != nil && found.State.Status == container.StateCreated {
		// The agent died before it started it, or while it did. By force, in case
		// that it starts now.
		if err := r.remove(found.ID); err != nil {
			return nil, fmt.Errorf("remove the container of backend %s, which was never started: %w", spec.BackendID, err)
		}
		return r.past(spec, found.ID, runtime.Exit{Code: -1, Message: "its container was never started"}), nil
	}
	i := r.newInstance(found.ID, spec)
	if err := i.learn(found); err != nil {
		i.letGo()
		return nil, fmt.Errorf("take over the container of backend %s: %w", spec.BackendID, err)
	}
	if !r.add(i) {
		i.letGo()
		return nil, runtime.ErrClosed
	}
	i.begin(resume(i), found)
	if !running(found) {
		select {
		case <-i.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return i, nil
}

// past is an instance that has ended and of which nothing is left.
func (r *Runtime) past(spec runtime.Spec, handle string, exit runtime.Exit) *Instance {
	i := r.newInstance(handle, spec)
	i.exit = exit
	i.unfollow()
	close(i.ended)
	close(i.done)
	return i
}

// Find lists the backends of which this drone has a container, running or not.
func (r *Runtime) Find(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: r.ours()})
	if err != nil {
		return nil, fmt.Errorf("list the containers of the drone: %w", plain(err))
	}
	ids := make([]string, 0, len(list.Items))
	for _, c := range list.Items {
		if id := c.Labels[labelBackend]; id != "" && !r.config.others(c.Labels) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
