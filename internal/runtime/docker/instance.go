package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Instance is one container.
type Instance struct {
	r         *Runtime
	id        string
	backendID string
	log       func(runtime.Line)

	// Known once the container was seen running, and not changed after begin.
	address    string
	pid        int
	stopSignal string
	memLimit   uint64

	cgroup cgroup

	// ended is closed when the container has ended, done when its output is read too.
	ended, done chan struct{}
	// following ends the reading of output, followed is closed when it has ended.
	following context.Context
	unfollow  context.CancelFunc
	followed  chan struct{}
	once      sync.Once
	exit      runtime.Exit // written before done is closed
	// oom is closed when an event says that the container ran out of memory; killed says
	// that it was ended hard from here.
	oom     chan struct{}
	oomOnce sync.Once
	killed  atomic.Bool
}

var _ runtime.Instance = (*Instance)(nil)

func (r *Runtime) newInstance(id string, spec runtime.Spec) *Instance {
	i := &Instance{
		r: r, id: id, backendID: spec.BackendID, log: spec.Log,
		ended: make(chan struct{}), done: make(chan struct{}), followed: make(chan struct{}),
		oom: make(chan struct{}),
	}
	i.following, i.unfollow = context.WithCancel(r.ctx)
	return i
}

// Address is where the container's port is published.
func (i *Instance) Address() string { return i.address }

// ListensAt is where the program has to listen, inside the container.
func (i *Instance) ListensAt() string { return net.JoinHostPort("0.0.0.0", inside.Port()) }

// Handle is the container's id.
func (i *Instance) Handle() string { return i.id }

// PID is the container's first process; 0 when the engine is not on this machine.
func (i *Instance) PID() int { return i.pid }

// Done is closed when the container has ended and its output is read.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Exit says how the container ended. The code is Docker's: 137 also means SIGKILL.
func (i *Instance) Exit() runtime.Exit {
	select {
	case <-i.done:
		return i.exit
	default:
		return runtime.Exit{}
	}
}

// nobody is a port that nothing listens on (tcpmux). A container that ended before
// its port could be asked for gets it: there is something to probe, in vain.
const nobody = "1"

// learn takes what there is to know of a container that was started.
func (i *Instance) learn(found container.InspectResponse) error {
	i.stopSignal = "SIGTERM"
	if found.Config != nil && found.Config.StopSignal != "" {
		i.stopSignal = found.Config.StopSignal
	}
	if found.HostConfig != nil && found.HostConfig.Memory > 0 {
		i.memLimit = uint64(found.HostConfig.Memory)
	}
	port := nobody
	if running(found) {
		var ok bool
		if found.NetworkSettings != nil {
			port, ok = published(found.NetworkSettings.Ports, i.r.host)
		}
		if !ok {
			return fmt.Errorf("no port of it is published on %s: its network (%s) may be internal", i.r.config.Host, found.HostConfig.NetworkMode)
		}
		if i.r.local && runsIn(found.State.Pid, i.id) {
			i.pid = found.State.Pid
		}
	}
	i.address = net.JoinHostPort(i.r.config.Host, port)
	return nil
}

// begin has the output followed from where f says.
func (i *Instance) begin(f *follower) {
	i.r.goOn(func() {
		defer close(i.followed)
		f.run(i)
	})
}

// Terminate sends the image's stop signal, SIGTERM if it names none, or with hard set
// SIGKILL. Where the engine does not answer, a hard one goes without it.
func (i *Instance) Terminate(ctx context.Context, hard bool) error {
	if i.hasEnded() {
		return nil
	}
	signal, timeout := i.stopSignal, askTimeout
	if hard {
		signal, timeout = "SIGKILL", killTimeout
		i.killed.Store(true)
	}
	asked, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := i.r.engine.ContainerKill(asked, i.id, client.ContainerKillOptions{Signal: signal})
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err), errdefs.IsConflict(err):
		// It has ended; see that it is noticed.
		i.r.goOn(func() { i.r.check(i, nil) })
		return nil
	case !hard:
		return fmt.Errorf("send %s to the container: %w", signal, plain(err))
	}
	// I1 does not wait for Docker.
	if killErr := i.r.killWithoutEngine(i); killErr != nil {
		return fmt.Errorf("kill the container: %w", errors.Join(plain(err), killErr))
	}
	return nil
}

// finish ends the instance once, for whoever notices first: the events, a list, Start
// itself, or who killed it without the engine.
func (i *Instance) finish(exit runtime.Exit) {
	i.once.Do(func() {
		close(i.ended)
		i.r.goOn(func() {
			grace := time.AfterFunc(i.r.config.OutputGrace, i.unfollow)
			defer grace.Stop()
			select {
			case <-i.followed:
			case <-i.r.ctx.Done():
				return
			}
			i.exit = i.withOOM(exit)
			i.r.drop(i)
			i.r.rest.add(i.id)
			close(i.done)
		})
	})
}

// oomGrace is how long the word that a container ran out of memory may come after its end:
// in the kernel's and the engine's reports the two are not ordered. It is waited for only where
// somebody else killed a container with a limit, which is rare but for this.
const oomGrace = 5 * time.Second

// withOOM adds that word to the exit of a container with a limit that somebody killed.
func (i *Instance) withOOM(exit runtime.Exit) runtime.Exit {
	if exit.Code != 137 || exit.Message != "" || i.memLimit == 0 || i.killed.Load() {
		return exit
	}
	timer := time.NewTimer(oomGrace)
	defer timer.Stop()
	select {
	case <-i.oom:
		exit.Message = outOfMemory(i.memLimit)
	case <-timer.C:
	case <-i.r.ctx.Done():
	}
	return exit
}

func outOfMemory(limit uint64) string {
	if limit == 0 {
		return "out of memory"
	}
	return fmt.Sprintf("out of memory: the limit is %d bytes", limit)
}

func (i *Instance) hasEnded() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

func running(found container.InspectResponse) bool {
	return found.State != nil && (found.State.Running || found.State.Paused || found.State.Restarting)
}

// exitOf says how a container that does not run ended.
func exitOf(found container.InspectResponse) runtime.Exit {
	state := found.State
	if state == nil {
		return runtime.Exit{Code: -1, Message: "Docker does not say how it ended"}
	}
	exit := runtime.Exit{Code: state.ExitCode, Message: state.Error}
	if state.OOMKilled {
		limit := uint64(0)
		if found.HostConfig != nil && found.HostConfig.Memory > 0 {
			limit = uint64(found.HostConfig.Memory)
		}
		exit.Message = outOfMemory(limit)
	}
	return exit
}
