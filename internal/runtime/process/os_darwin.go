package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// system is what a runtime holds on this system beyond what it holds on all: nothing.
// Processes do not outlive the runtime here, and there is no parent-death signal: an
// agent that is killed leaves its processes, so a drone on this system is for
// development.
type system struct{}

func (r *Runtime) open() (runtime.Runtime, error) { return r, nil }

func (r *Runtime) outlives() bool { return false }

func (r *Runtime) endEscaped(string) {}

func prepareThread() error { return nil }

// fork starts the program in a process group of its own.
func (r *Runtime) fork(p program, _ int) (body, string, error) {
	pid, err := r.forker.start(p, &syscall.SysProcAttr{Setpgid: true})
	return body(pid), "", err
}

func (r *Runtime) openStreams(string) (readers, writers []*os.File, err error) { return pipes() }

func (r *Runtime) removeStreams(string) {}

// body is a child that is not reaped, by its number.
type body int

func (b body) pid() int { return int(b) }

// wait returns when the process has ended, and leaves it unreaped. x/sys has no waitid
// for this system; this is the call that package os makes itself.
func (b body) wait() error {
	const byPID = 1
	var info [16]uint64 // more than the 104 bytes of a siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(b),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return nil // an error means that there is no such child; reaping says so, too
		}
	}
}

// signal goes to the group.
func (b body) signal(signal syscall.Signal) error {
	err := unix.Kill(-int(b), signal)
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) { // it says EPERM of a zombie
		return nil
	}
	return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), int(b), err)
}

func (b body) reap() runtime.Exit { return reapChild(int(b)) }

func (b body) close() {}

// groups cannot tell what a process uses on this system.
type groups struct{}

func (*groups) usage(int) (runtime.Usage, error) { return runtime.Usage{}, nil }

// claim keeps no other agent off a port here.
type claim struct{}

var unclaimed claim

func claimPort(string) (claim, error) { return unclaimed, nil }

func (claim) release() {}
