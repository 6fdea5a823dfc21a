package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// system is what a runtime holds on this system beyond what it holds on all: nothing.
// Processes do not outlive the runtime here, and there is no parent-death signal: an
// agent that is killed leaves its processes, so a drone on this system is for
// development.
type system struct{}

func (r *Runtime) open() (runtime.Runtime, error) { return r, nil }

func (r *Runtime) closeSystem() {}

func (r *Runtime) outlives() bool { return false }

func onMainThread() bool { return false } // which makes no difference here

func prepareThread() error { return nil }

// pen is none: what leaves the process group is out of reach here.
type pen struct{}

func (r *Runtime) makePen(string, *executable.Limits) (pen, error) { return pen{}, nil }

func (pen) kill() error { return nil }

func (pen) empty() bool { return true }

func (pen) remove() {}

func (pen) outOfMemory() bool { return false }

// usage cannot be told on this system.
func (pen) usage() (runtime.Usage, error) { return runtime.Usage{}, nil }

// canLimit refuses limits, for which this system has nothing.
func (r *Runtime) canLimit(l *executable.Limits) error {
	if l == nil {
		return nil
	}
	return errors.New("executable: resource_limits: this drone cannot hold a process to them: its system has no cgroups")
}

// Lacks says in words for people what this machine gives no means for.
func (r *Runtime) Lacks() (cgroups string, limits map[string]string) {
	const why = "macOS has no cgroups"
	return why, map[string]string{"memory": why, "cpu": why, "pids": why}
}

// Unconfined says why backends are not held by Landlock, if they should be; "" else.
func (r *Runtime) Unconfined() string {
	if r.config.Landlock {
		return "macOS has no Landlock"
	}
	return ""
}

// About is what drones show of the runtime: what it lacks.
func (r *Runtime) About() string { return "process, no cgroups" }

// fork starts the program in a process group of its own.
func (r *Runtime) fork(instance *Instance, _ pen, p program) (err error) {
	instance.pid, err = r.forker.start(p, &syscall.SysProcAttr{Setpgid: true, Credential: r.users.credential(instance.user)})
	instance.body.child = instance.pid
	return err
}

func (r *Runtime) openStreams(string, int) (readers, writers []*os.File, err error) { return pipes() }

func (r *Runtime) removeFiles(string) {}

// body is a child that is not reaped, by its number.
type body struct {
	pen

	child int
}

// onEnd calls when the process has ended, and leaves it unreaped.
func (r *Runtime) onEnd(b body, ended func()) error {
	go func() {
		b.wait()
		ended()
	}()
	return nil
}

// wait returns when the process has ended, and leaves it unreaped. x/sys has no waitid
// for this system; this is the call that package os makes itself.
func (b body) wait() {
	const byPID = 1
	var info [16]uint64 // more than the 104 bytes of a siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(b.child),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return // an error means that there is no such child; reaping says so, too
		}
	}
}

// signal goes to the group.
func (b body) signal(signal syscall.Signal) error {
	err := unix.Kill(-b.child, signal)
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) { // it says EPERM of a zombie
		return nil
	}
	return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), b.child, err)
}

// kill goes to the group, too.
func (b body) kill() error { return b.signal(unix.SIGKILL) }

func (b body) reap() runtime.Exit { return reapChild(b.child) }

func (b body) close() {}

// claim keeps no other agent off a port here.
type claim struct{}

var unclaimed claim

func claimPort(string) (claim, error) { return unclaimed, nil }

func (claim) release() {}
