package docker

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
)

// tellPatience is how long the engine may take, once a container's first process has
// ended, to say how: it knows of a lack of memory, the kernel of the exit code alone. Tests' engines have longer.
var tellPatience = 5 * time.Second

// lookEvery bounds one wait for the engine's word that a container has ended, which may be lost: then it is
// looked. Tests, which see what is found, have less.
var lookEvery = 20 * time.Second

// process is a container's first process, on this machine. Its end is the container's: the
// kernel ends all others of it before.
type process interface {
	// Wait returns nil when it has ended, and an error after Close.
	Wait() error
	Signal(signal syscall.Signal) error
	// exit says how it ended, after Wait.
	exit() runtime.Exit
	// Usage is what its control group uses, if it is known.
	Usage() (usage runtime.Usage, known bool)
	// OutOfMemory says whether the kernel has killed one of the group for want of memory.
	OutOfMemory() bool
	// Thaw has it end if it was killed while it was paused.
	Thaw() error
	// Reclaim has the kernel hand back memory of its control group.
	Reclaim(bytes uint64) (got uint64, more bool, err error)
	Close()
}

func retries() backoff.BackOff {
	return pause.Growing(10*time.Millisecond, 2*time.Second)
}

// await returns how a container has ended, when it has, or at Close. Where its first process is
// on this machine the kernel tells of that, also while the engine is away. Of others the engine does.
func (r *Runtime) await(i *Instance) runtime.Exit {
	ctx, known := r.ctx, runtime.Exit{}
	if i.process != nil {
		defer context.AfterFunc(r.ctx, i.process.Close)()
	}
	if i.process != nil && i.process.Wait() == nil {
		i.over()
		if i.process.OutOfMemory() { // asked at once, before the engine removes the group
			i.ranOutOfMemory()
		}
		known = i.process.exit()
		bounded, cancel := context.WithTimeout(r.ctx, tellPatience)
		defer cancel()
		ctx = bounded
	}
	exit, err := backoff.RetryWithData(func() (runtime.Exit, error) { return r.end(ctx, i) }, backoff.WithContext(retries(), ctx))
	if err != nil {
		return known
	}
	return exit
}

// end says how a container has ended. Somebody else's first process in it is one that was started
// behind the drone's back, and removed: its lease is given away with its end (I1).
func (r *Runtime) end(ctx context.Context, i *Instance) (runtime.Exit, error) {
	if i.process == nil {
		bounded, cancel := context.WithTimeout(ctx, lookEvery)
		defer cancel()
		wait := r.engine.ContainerWait(bounded, i.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select { // whatever it says is not more than a reason to look
		case <-wait.Result:
		case <-wait.Error:
		}
	}
	found, err := r.inspect(ctx, i.id)
	switch {
	case errdefs.IsNotFound(err):
		i.unfollow() // Podman keeps a reader of its log waiting
		return runtime.Exit{Code: -1, Message: "its container was removed"}, nil
	case err != nil:
		return runtime.Exit{}, err
	case !running(found):
		return i.exitOf(found), nil
	case i.process == nil && r.near && isGone(found.State.Pid):
		return runtime.Exit{Code: -1, Message: "its process is gone, of which the engine has not heard: how it ended is not known"}, nil
	case found.State.Pid == i.first:
		return runtime.Exit{}, errors.New("the engine says that it runs")
	}
	if err := r.remove(i.id); err != nil {
		r.config.Log.Warn("cannot remove a container that was started again, trying again", "backend_id", i.backendID, "err", err)
		return runtime.Exit{}, err
	}
	i.unfollow()
	return runtime.Exit{Code: -1, Message: "it was started again behind the drone's back, and removed"}, nil
}

// watch keeps one stream of events until Close. No end depends on it: it tells at once what
// else is worth knowing of containers, and whether the engine is there.
func (r *Runtime) watch() {
	tries, away := retries(), false
	_ = backoff.RetryNotify(func() error {
		return r.listen(func() {
			tries.Reset()
			if away {
				r.config.Log.Info("docker is back")
			}
			away = false
		})
	}, backoff.WithContext(tries, r.ctx), func(err error, _ time.Duration) {
		if !away && r.ctx.Err() == nil {
			r.config.Log.Warn("docker is away: no backend is started until it is back", "err", plain(err))
		}
		away = true
	})
}

// listen takes events until their stream breaks. hears is called once the engine answers.
func (r *Runtime) listen(hears func()) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	filter := r.ours().Add("type", string(events.ContainerEventType)).Add("event", string(events.ActionStart), string(events.ActionOOM), string(events.ActionUnPause))
	stream := r.engine.Events(ctx, client.EventsListOptions{Filters: filter})
	if _, err := r.engine.Ping(ctx, client.PingOptions{}); err != nil {
		return err
	}
	hears()
	r.lookForWoken() // what has happened since the last stream
	for {
		select {
		case event := <-stream.Messages:
			r.heard(event)
		case err := <-stream.Err:
			return fmt.Errorf("its events end: %w", err)
		}
	}
}

// heard takes the event of a start, by Start or by somebody else, that somebody thawed a container, or that one ran out
// of memory, which may come before or after its end.
func (r *Runtime) heard(event events.Message) {
	r.mu.Lock()
	i := r.live[event.Actor.ID]
	r.mu.Unlock()
	switch {
	case i == nil:
	case event.Action == events.ActionOOM:
		i.ranOutOfMemory()
	case event.Action == events.ActionUnPause && i.woken.Load() != nil:
		r.goOn(i.lookForWoken)
	case event.Action == events.ActionStart && i.hasEnded():
		r.goOn(func() { r.again(i) })
	}
}

// again removes a container that has ended, if it runs: the event of its first start may be late.
func (r *Runtime) again(i *Instance) {
	found, err := r.inspect(r.ctx, i.id)
	if err != nil || !running(found) {
		return
	}
	i.unfollow() // or its output has no end
	if err := r.remove(i.id); err != nil {
		r.config.Log.Warn("cannot remove a container that was started again, trying again when it is due", "backend_id", i.backendID, "err", err)
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
