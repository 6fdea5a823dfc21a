package docker

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

const (
	// tellPatience is how long the engine may take, once a container's first process has
	// ended, to say how: it knows of a lack of memory, the kernel of the exit code alone.
	tellPatience = 5 * time.Second
	// waitAtMost bounds one wait for the end of a container by the engine's word, in
	// case that the connection is dead and nobody notices.
	waitAtMost = time.Minute
)

// process is a container's first process, on this machine. Its end is the container's: the
// kernel ends all others of it before.
type process interface {
	// Wait returns nil when it has ended, and an error after Close.
	Wait() error
	Signal(signal syscall.Signal) error
	// exit says how it ended, after Wait.
	exit() runtime.Exit
	Close()
}

func retries() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
}

// await ends an instance when its container has ended. Where its first process is on this
// machine the kernel tells of that, also while the engine is away. Of others the engine does.
func (r *Runtime) await(i *Instance) {
	ctx, known := r.ctx, runtime.Exit{}
	if i.process != nil {
		defer i.process.Close()
		defer context.AfterFunc(r.ctx, i.process.Close)()
		i.cgroup.of(i)
		if i.process.Wait() != nil {
			return
		}
		if i.cgroup.killed() { // at once, before the engine removes the group
			i.ranOutOfMemory()
		}
		known = i.process.exit()
		bounded, cancel := context.WithTimeout(r.ctx, tellPatience)
		defer cancel()
		ctx = bounded
	}
	pause := retries()
	for {
		exit, err := r.end(ctx, i)
		if err == nil {
			i.finish(exit)
			return
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			if r.ctx.Err() == nil {
				i.finish(known)
			}
			return
		}
	}
}

// end waits until the engine says that a container has ended, and returns how. One that somebody
// started again behind the drone's back is removed: its lease is given away with its end (I1).
func (r *Runtime) end(ctx context.Context, i *Instance) (runtime.Exit, error) {
	atMost := waitAtMost
	if i.process != nil { // it has ended, which the engine is about to notice
		atMost = time.Second
	}
	for range 2 {
		found, err := r.inspect(ctx, i.id)
		switch {
		case errdefs.IsNotFound(err):
			i.unfollow() // Podman keeps a reader of its log waiting
			return runtime.Exit{Code: -1, Message: "its container was removed"}, nil
		case err != nil:
			return runtime.Exit{}, err
		case !running(found):
			return exitOf(found), nil
		case found.State.Pid != i.first:
			if err := r.remove(i.id); err != nil {
				r.config.Log.Warn("cannot remove a container that was started again, trying again", "backend_id", i.backendID, "err", err)
				return runtime.Exit{}, err
			}
			i.unfollow()
			return runtime.Exit{Code: -1, Message: "it was started again behind the drone's back, and removed"}, nil
		}
		bounded, cancel := context.WithTimeout(ctx, atMost)
		wait := r.engine.ContainerWait(bounded, i.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case <-wait.Result:
		case err = <-wait.Error:
		}
		cancel()
		if err != nil && !errdefs.IsNotFound(err) {
			return runtime.Exit{}, err
		}
	}
	return runtime.Exit{}, errors.New("the engine says that it runs")
}

// watch keeps one stream of events until Close. No end depends on it: it tells at once what
// else is worth knowing of containers, and whether the engine is there.
func (r *Runtime) watch() {
	pause, away := retries(), false
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
			r.config.Log.Warn("docker is away: no backend is started until it is back", "err", plain(err))
		}
		away = true
		select {
		case <-time.After(pause.NextBackOff()):
		case <-r.ctx.Done():
		}
	}
}

// listen takes events until their stream breaks. hears is called once the engine answers.
func (r *Runtime) listen(hears func()) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	filter := r.ours().Add("type", string(events.ContainerEventType)).Add("event", string(events.ActionStart), string(events.ActionOOM))
	stream := r.engine.Events(ctx, client.EventsListOptions{Filters: filter})
	if _, err := r.engine.Ping(ctx, client.PingOptions{}); err != nil {
		return err
	}
	hears()
	for {
		select {
		case event := <-stream.Messages:
			r.heard(event)
		case err := <-stream.Err:
			return err
		}
	}
}

// heard takes the event of a start, by Start or by somebody else, or that a container ran out
// of memory, which may come before or after its end.
func (r *Runtime) heard(event events.Message) {
	r.mu.Lock()
	i := r.live[event.Actor.ID]
	r.mu.Unlock()
	switch {
	case event.Action == events.ActionStart && (i == nil && r.rest.has(event.Actor.ID) || i != nil && i.hasEnded()):
		r.goOn(func() { r.again(event.Actor.ID, i) })
	case i != nil && event.Action == events.ActionOOM:
		i.ranOutOfMemory()
	}
}

// again removes a container that has ended, if it runs: the event of its first start may be late.
func (r *Runtime) again(id string, i *Instance) {
	found, err := r.inspect(r.ctx, id)
	if err != nil || !running(found) {
		return
	}
	if i != nil {
		i.unfollow() // or its output has no end
	}
	if err := r.remove(id); err != nil {
		r.config.Log.Warn("cannot remove a container that was started again, trying again when it is due", "container", id, "err", err)
	}
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
