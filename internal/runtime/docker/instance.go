package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

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
	process    process // the one with that pid; nil: 0
	first      int     // the same on the engine's machine
	stopSignal string
	memLimit   uint64

	// ended is closed when the container has ended, done when its output is read too.
	ended, done chan struct{}
	// following ends the reading of output, as unfollow does; running, which is part of it, with the container's
	// first process: what is read from then on is read once, to its end.
	following, running context.Context
	unfollow, over     context.CancelFunc
	exit               runtime.Exit // written before done is closed
	// oom is closed when an event says that the container ran out of memory; killed says
	// that it was ended hard from here.
	oom     chan struct{}
	oomOnce sync.Once
	killed  atomic.Bool
	// woken is called when somebody else thaws the container; nil: it was not put to sleep.
	woken atomic.Pointer[func()]
}

var _ runtime.Instance = (*Instance)(nil)

func (r *Runtime) newInstance(id string, spec runtime.Spec) *Instance {
	i := &Instance{
		r: r, id: id, backendID: spec.BackendID, log: spec.Log,
		ended: make(chan struct{}), done: make(chan struct{}), oom: make(chan struct{}),
	}
	i.following, i.unfollow = context.WithCancel(r.ctx)
	i.running, i.over = context.WithCancel(i.following)
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
	if !runtime.Over(i.done) {
		return runtime.Exit{}
	}
	return i.exit
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
		i.first = found.State.Pid
		if i.process = i.r.hold(found.State.Pid, i); i.process != nil {
			i.pid = found.State.Pid
		}
	}
	i.address = net.JoinHostPort(i.r.config.Host, port)
	return nil
}

// begin has the output followed from where f says, and the end awaited, or taken from found.
func (i *Instance) begin(f *follower, found container.InspectResponse) {
	if !i.r.goOn(func() { i.live(f, found) }) {
		i.letGo()
	}
}

// live returns when the container has ended, or at Close.
func (i *Instance) live(f *follower, found container.InspectResponse) {
	defer i.letGo()
	followed := make(chan struct{})
	i.r.wg.Go(func() {
		defer close(followed)
		f.run(i)
	})
	exit := i.exitOf(found)
	if running(found) {
		exit = i.r.await(i)
	}
	if i.r.ctx.Err() != nil {
		return
	}
	i.over()
	close(i.ended)
	grace := time.AfterFunc(i.r.config.OutputGrace, i.unfollow)
	defer grace.Stop()
	<-followed
	if exit = i.withOOM(exit); i.r.ctx.Err() != nil {
		return
	}
	i.exit = exit
	close(i.done)
	i.r.removeLater(i.id)
}

// letGo closes what an instance holds that nobody awaits.
func (i *Instance) letGo() {
	if i.process != nil {
		i.process.Close()
	}
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
	err := i.signal(asked, signal)
	switch {
	case err == nil, errdefs.IsNotFound(err), errdefs.IsConflict(err): // it ends, or has ended
		return nil
	case !hard:
		return fmt.Errorf("send %s to the container: %w", signal, plain(err))
	case i.process == nil:
		return fmt.Errorf("kill the container, whose processes cannot be seen from here: %w", plain(err))
	}
	// I1 does not wait for Docker.
	if killErr := errors.Join(i.process.Signal(syscall.SIGKILL), i.process.Thaw()); killErr != nil && !i.hasEnded() {
		return fmt.Errorf("kill the container: %w", errors.Join(plain(err), killErr))
	}
	return nil
}

// signal has the engine send a signal.
func (i *Instance) signal(ctx context.Context, signal string) error {
	return sendSignal(ctx, i.r.engine, i.id, signal)
}

// oomGrace is how long Docker's word that a container ran out of memory may come after its end:
// in the kernel's and the engine's reports the two are not ordered. It is waited for only where
// somebody else killed a container with a limit, which is rare but for this.
const oomGrace = 5 * time.Second

// withOOM adds that word to an exit, or where nobody gives it, that it may be so: Podman does not.
func (i *Instance) withOOM(exit runtime.Exit) runtime.Exit {
	maybe := exit.Code == 137 && i.memLimit > 0 && !i.killed.Load()
	if maybe && exit.Message == "" && !i.r.podman.Load() {
		select {
		case <-i.oom:
		case <-time.After(oomGrace):
		case <-i.r.ctx.Done():
		}
	}
	switch {
	case runtime.Over(i.oom):
		exit.Message = "out of memory"
	case maybe:
		exit.Message = "killed, maybe for want of memory"
	default:
		return exit
	}
	if i.memLimit > 0 {
		exit.Message += fmt.Sprintf(": the limit is %d bytes", i.memLimit)
	}
	return exit
}

func (i *Instance) ranOutOfMemory() { i.oomOnce.Do(func() { close(i.oom) }) }

func (i *Instance) hasEnded() bool { return runtime.Over(i.ended) }

func running(found container.InspectResponse) bool {
	return found.State != nil && (found.State.Running || found.State.Paused || found.State.Restarting)
}

func paused(found container.InspectResponse) bool { return found.State != nil && found.State.Paused }

// exitOf says how a container that does not run ended.
func (i *Instance) exitOf(found container.InspectResponse) runtime.Exit {
	if found.State == nil {
		return runtime.Exit{Code: -1, Message: "Docker does not say how it ended"}
	}
	if found.State.OOMKilled {
		i.ranOutOfMemory()
	}
	return runtime.Exit{Code: found.State.ExitCode, Message: found.State.Error}
}
