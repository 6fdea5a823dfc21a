package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

const (
	// settle is when, after the events have begun, all containers are looked at once
	// more: the engine says that they begin a moment before they do.
	settle = time.Second
	// recheck is how often they are looked at anyway.
	recheck = 30 * time.Second
)

// watch keeps one stream of events until Close.
func (r *Runtime) watch() {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	away := false
	for r.ctx.Err() == nil {
		err := r.listen(func() {
			pause.Reset()
			if away {
				r.config.Log.Info("docker is back")
			}
			away = false
		})
		if r.ctx.Err() != nil {
			return
		}
		if !away {
			r.config.Log.Warn("docker is away: no backend is started, and no end of one is seen, until it is back", "err", plain(err))
		}
		away = true
		select {
		case <-time.After(pause.NextBackOff()):
		case <-r.ctx.Done():
		}
	}
}

// listen takes events until their stream breaks. hears is called once it stands and
// all containers were looked at.
func (r *Runtime) listen(hears func()) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	filter := r.ours().Add("type", string(events.ContainerEventType)).Add("event", string(events.ActionDie), string(events.ActionStart), string(events.ActionOOM))
	stream := r.engine.Events(ctx, client.EventsListOptions{Filters: filter})
	if err := r.reconcile(); err != nil {
		return err
	}
	hears()
	again := time.NewTimer(settle)
	defer again.Stop()
	for {
		select {
		case event := <-stream.Messages:
			switch event.Action {
			case events.ActionStart:
				r.started(event.Actor.ID)
			case events.ActionDie:
				r.died(event)
			case events.ActionOOM:
				r.ranOutOfMemory(event.Actor.ID)
			}
		case err := <-stream.Err:
			return err
		case <-again.C:
			if err := r.reconcile(); err != nil {
				return err
			}
			again.Reset(recheck)
		}
	}
}

// started takes the event of a start: by Start, or of a container that had ended, by
// somebody else.
func (r *Runtime) started(id string) {
	r.mu.Lock()
	i := r.live[id]
	r.mu.Unlock()
	if i == nil {
		r.rest.now(id)
	} else if i.hasEnded() {
		r.goOn(func() { r.endAgain(i, runtime.Exit{}) })
	}
}

// ranOutOfMemory takes the event of that, which may come before or after the end.
func (r *Runtime) ranOutOfMemory(id string) {
	r.mu.Lock()
	i := r.live[id]
	r.mu.Unlock()
	if i != nil {
		i.oomOnce.Do(func() { close(i.oom) })
	}
}

// died takes the event of a container's end. It is looked at for what the event does
// not say.
func (r *Runtime) died(event events.Message) {
	r.mu.Lock()
	i := r.live[event.Actor.ID]
	r.mu.Unlock()
	if i == nil {
		return
	}
	known := &runtime.Exit{Code: -1}
	if code, err := strconv.Atoi(event.Actor.Attributes["exitCode"]); err == nil {
		known.Code = code
	}
	r.goOn(func() { r.check(i, known) })
}

// reconcile finds the containers that have ended without an event, with one list.
func (r *Runtime) reconcile() error {
	// Before the list: what is added while it is made is not missed in it.
	r.mu.Lock()
	looked := make([]*Instance, 0, len(r.live))
	for _, i := range r.live {
		looked = append(looked, i)
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.ctx, askTimeout)
	defer cancel()
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{Filters: r.ours()})
	if err != nil {
		return err
	}
	running := make(map[string]struct{}, len(list.Items))
	for _, c := range list.Items {
		running[c.ID] = struct{}{}
	}
	for _, i := range looked {
		if _, ok := running[i.id]; !ok {
			r.goOn(func() { r.check(i, nil) })
		}
	}
	return nil
}

// check looks at one container and ends its instance if it does not run. known is how
// it ended, if an event has told. A container that was not started yet is left alone.
func (r *Runtime) check(i *Instance, known *runtime.Exit) {
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-i.ended:
		return
	case <-r.ctx.Done():
		return
	}
	found, err := r.inspect(r.ctx, i.id)
	switch {
	case errdefs.IsNotFound(err):
		if known == nil {
			known = &runtime.Exit{Code: -1, Message: "its container was removed"}
		}
		i.finish(*known)
	case err != nil: // until Docker is back
	case running(found):
		if known != nil {
			r.endAgain(i, *known)
		}
	case found.State != nil && found.State.Status == container.StateCreated:
	default:
		i.finish(exitOf(found))
	}
}

// endAgain ends an instance whose container runs after it has ended: somebody started
// it again behind the drone's back. With its end its lease is given away (I1).
func (r *Runtime) endAgain(i *Instance, exit runtime.Exit) {
	if err := r.remove(i.id); err != nil {
		r.config.Log.Warn("cannot remove a container that was started again, trying again", "backend_id", i.backendID, "err", err)
		return // the next look at it finds it running, as a container that has not ended
	}
	exit.Message = "it was started again behind the drone's back, and removed"
	i.finish(exit)
}

// inspect asks for a container, and takes one of another drone for none.
func (r *Runtime) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := r.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err == nil && (found.Container.Config == nil || found.Container.Config.Labels[labelDrone] != r.config.Drone) {
		err = errdefs.ErrNotFound
	}
	return found.Container, err
}
