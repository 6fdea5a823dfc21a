package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// system is what a runtime holds on this system beyond what it holds on all.
type system struct {
	census census
	boot   string
}

// outlives says whether the processes outlive the agent.
func (r *Runtime) outlives() bool { return r.config.StateDir != "" }

// prepareThread denies the processes of this thread all gain of privileges: one that
// has them could not be killed by an agent that has not (I1), and a setuid program
// would clear the parent-death signal.
func prepareThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("deny new privileges: %w", err)
	}
	return nil
}

// fork starts the program in a process group of its own. Unless processes outlive the
// agent, its life is tied to the thread that starts it (I1).
func (r *Runtime) fork(p program, port int) (body, string, error) {
	pidfd := -1
	sys := &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	if !r.outlives() {
		sys.Pdeathsig = syscall.SIGKILL
	}
	pid, err := r.forker.start(p, sys)
	if err != nil {
		return body{}, "", err
	}
	id, err := procs.Identify(pid)
	var ref *procs.Ref
	if err == nil {
		ref, err = procs.Take(id, pidfd) // -1 before Linux 5.3
	}
	if err != nil {
		_ = unix.Kill(-pid, unix.SIGKILL)
		reapChild(pid)
		return body{}, "", fmt.Errorf("watch the process, which needs Linux 5.4 or later: %w", err)
	}
	b := body{ref: ref, child: true}
	if !r.outlives() {
		return b, "", nil
	}
	return b, handle{id: id, port: port, boot: r.boot}.String(), nil
}

// body is one process that leads a group.
type body struct {
	ref *procs.Ref
	// child says that it is a child of this process, not reaped.
	child bool
}

func (b body) pid() int { return b.ref.PID }

// wait returns nil when the process has ended, and leaves it unreaped; an error when the
// body was closed before.
func (b body) wait() error { return b.ref.Wait() }

// signal goes to the group. SIGKILL also reaches a leader that has left it.
func (b body) signal(signal syscall.Signal) error {
	var err error
	if b.child { // not reaped: the group's number is its own
		if err = unix.Kill(-b.pid(), signal); errors.Is(err, unix.ESRCH) {
			err = nil
		}
	} else {
		err = b.ref.SignalGroup(signal)
	}
	if err == nil && signal == unix.SIGKILL {
		err = b.ref.Signal(signal)
	}
	if err != nil {
		return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), b.pid(), err)
	}
	return nil
}

// reap says how a process that has ended did so, and lets go of it.
func (b body) reap() runtime.Exit {
	defer b.close()
	if b.child {
		return reapChild(b.pid())
	}
	status, ok := b.ref.ExitStatus()
	if !ok {
		return runtime.Exit{Code: -1, Message: "its exit code is not known: it was started by an earlier run of the agent, and this kernel tells only a parent (Linux tells others since 6.15)"}
	}
	return exitOf(status)
}

func (b body) close() { b.ref.Close() }

// openStreams makes what a process writes its output to, and what to read it from.
func (r *Runtime) openStreams(backendID string) (readers, writers []*os.File, err error) {
	if r.outlives() {
		return r.makeFIFOs(backendID)
	}
	return pipes()
}

// claim is how an agent keeps others of this machine off a port that it has given out:
// an abstract Unix socket with the port's name, in the same network namespace.
type claim int

const unclaimed claim = -1

// claimPort claims an address, or says errTaken.
func claimPort(address string) (claim, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return unclaimed, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@jetway-port-" + address}); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			err = errTaken
		}
		return unclaimed, err
	}
	return claim(fd), nil
}

func (c claim) release() {
	if c != unclaimed {
		_ = unix.Close(int(c))
	}
}
