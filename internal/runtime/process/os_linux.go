package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// system is what a runtime holds on this system beyond what it holds on all.
type system struct {
	census census
	pens   pens
	boot   string
	// landlock is none, without a reason, where nobody has asked for it.
	landlock landlock
}

// outlives says whether the processes outlive the agent.
func (r *Runtime) outlives() bool { return r.config.StateDir != "" }

func onMainThread() bool { return unix.Gettid() == unix.Getpid() }

// prepareThread denies the processes of this thread all gain of privileges: one that
// has them could not be killed by an agent that has not (I1), and a setuid program
// would clear the parent-death signal.
func prepareThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("deny new privileges: %w", err)
	}
	return nil
}

// fork starts the program in its pen, leading a process group of its own. Unless processes
// outlive the agent, its life is tied to the thread that starts it (I1).
func (r *Runtime) fork(instance *Instance, pen pen, p program) error {
	pidfd := -1
	sys := &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd, Credential: r.users.credential(instance.user)}
	if !r.outlives() {
		sys.Pdeathsig = syscall.SIGKILL
	}
	if pen.group != nil {
		group, err := pen.group.Open()
		if err != nil {
			return err
		}
		defer group.Close()
		sys.UseCgroupFD, sys.CgroupFD = true, int(group.Fd())
		p.enter = pen.group.Enter
	}
	if r.landlock.version > 0 {
		ruleset, err := r.ruleset(instance.backendID, instance.home)
		if err != nil {
			return err
		}
		defer unix.Close(ruleset)
		p.confine = func() error { return confine(ruleset) }
	}
	pid, err := r.forker.start(p, sys)
	if err != nil {
		return err
	}
	id, err := procs.Identify(pid)
	var ref *procs.Ref
	if err == nil {
		ref, err = procs.Take(id, pidfd) // -1 before Linux 5.3
	}
	if err == nil && p.cpuTime > 0 {
		limit := unix.Rlimit{Cur: uint64(p.cpuTime), Max: uint64(p.cpuTime)}
		if err = unix.Prlimit(pid, unix.RLIMIT_CPU, &limit, nil); err != nil {
			ref.Close()
		}
	}
	if err != nil {
		_ = unix.Kill(-pid, unix.SIGKILL)
		_ = pen.kill()
		reapChild(pid)
		return fmt.Errorf("watch the process, which needs Linux 5.4 or later: %w", err)
	}
	instance.pid, instance.body = pid, body{ref: ref, child: true, pen: pen}
	if r.outlives() {
		h := handle{id: id, port: instance.port, boot: r.boot, user: instance.user, group: pen.dir()}
		instance.handle = h.String()
		r.note(instance.backendID, h)
	}
	return nil
}

// body is one process that leads a process group, and the pen that it is in.
type body struct {
	pen

	ref *procs.Ref
	// child says that it is a child of this process, not reaped.
	child bool
}

// onEnd calls when the process has ended, and leaves it unreaped, unless the body is closed before.
func (r *Runtime) onEnd(b body, ended func()) (err error) {
	return errors.Join(b.ref.Control(func(fd uintptr) {
		_, err = r.poller.add(int(fd), true, func(bool) (again bool, _ time.Time) {
			if b.ref.Ended() {
				ended()
				return false, time.Time{}
			}
			return true, time.Time{}
		})
	}), err)
}

// signal goes to the process group.
func (b body) signal(signal syscall.Signal) error {
	var err error
	if b.child { // not reaped: the group's number is its own
		if err = unix.Kill(-b.ref.PID, signal); errors.Is(err, unix.ESRCH) {
			err = nil
		}
	} else {
		err = b.ref.SignalGroup(signal)
	}
	if err != nil {
		return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), b.ref.PID, err)
	}
	return nil
}

// kill ends the process and all in its pen, and where that is only found by labels, its
// process group.
func (b body) kill() error {
	if b.group != nil {
		return b.pen.kill()
	}
	return errors.Join(b.signal(unix.SIGKILL), b.ref.Signal(unix.SIGKILL)) // it may have left its group
}

// reap says how a process that has ended did so, and lets go of it.
func (b body) reap() runtime.Exit {
	defer b.close()
	if b.child {
		return reapChild(b.ref.PID)
	}
	status, ok := b.ref.ExitStatus()
	if !ok {
		return runtime.Exit{Code: -1, Message: "its exit code is not known: it was started by an earlier run of the agent, and this kernel tells only a parent (Linux tells others since 6.15)"}
	}
	return exitOf(status)
}

func (b body) close() {
	if b.ref != nil {
		b.ref.Close()
	}
}

// openStreams makes what a process writes its output to, and what to read it from.
func (r *Runtime) openStreams(backendID string, user int) (readers, writers []*os.File, err error) {
	if r.outlives() {
		return r.makeFIFOs(backendID, user)
	}
	return pipes()
}

// canLimit says why this drone cannot hold a backend to limits, if it cannot.
func (r *Runtime) canLimit(l *executable.Limits) error {
	demands := l.Demands()
	for _, want := range []struct {
		name, controller string
		wanted           bool
	}{
		{"memory_limit_bytes", "memory", demands.MemoryBytes > 0},
		{"cpu_period_percent", "cpu", demands.CPUMillis > 0},
		{"pids_limit", "pids", l != nil && l.PidsLimit != nil},
	} {
		if why, lacks := r.pens.lacks(want.controller); want.wanted && lacks {
			return fmt.Errorf("executable: resource_limits.%s: this drone cannot hold a process to it: %s", want.name, why)
		}
	}
	return nil
}

// Lacks says in words for people what this machine gives no means for; "" if nothing.
// Limits are the controllers that limits are held by, and why those that lack do.
func (r *Runtime) Lacks() (cgroups string, limits map[string]string) {
	if r.pens.why != "" {
		return r.pens.why, map[string]string{"memory": r.pens.why, "cpu": r.pens.why, "pids": r.pens.why}
	}
	return "", r.pens.base.Lacks()
}

// Unconfined says why backends are not held by Landlock, if they should be; "" else.
func (r *Runtime) Unconfined() string { return r.landlock.why }

// About is what drones show of the runtime: what it lacks.
func (r *Runtime) About() string {
	about := "process"
	switch cgroups, limits := r.Lacks(); {
	case cgroups != "":
		about += ", no cgroups"
	case len(limits) > 0:
		about += ", no limits of " + strings.Join(slices.Sorted(maps.Keys(limits)), ", ")
	}
	if r.Unconfined() != "" {
		about += ", no Landlock"
	}
	return about
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
