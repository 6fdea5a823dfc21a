package process

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Instance is one process and the group that it leads.
type Instance struct {
	owner   *Runtime
	cmd     *exec.Cmd
	port    int
	address string
	pidfd   int // -1 where there is none
	outputs []*stream
	reading sync.WaitGroup
	done    chan struct{}
	exit    runtime.Exit // written before done is closed

	mu     sync.Mutex
	reaped bool // from here on the group's number may belong to others
}

var _ runtime.Instance = (*Instance)(nil)

// Address is where the process was told to listen.
func (i *Instance) Address() string { return i.address }

// PID is the process id, which is also the number of its group.
func (i *Instance) PID() int { return i.cmd.Process.Pid }

// Handle is empty so far.
func (i *Instance) Handle() string { return "" }

// Usage is nothing so far.
func (i *Instance) Usage(context.Context) (runtime.Usage, error) { return runtime.Usage{}, nil }

// Terminate sends SIGTERM, or with hard set SIGKILL, to the whole group.
func (i *Instance) Terminate(_ context.Context, hard bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reaped {
		return nil
	}
	if hard {
		return i.signal(unix.SIGKILL)
	}
	if err := i.signal(unix.SIGTERM); err != nil {
		return err
	}
	return i.signal(unix.SIGCONT) // one that is stopped could not react
}

// signal is called with the mutex held and the process not reaped: its number,
// and so that of its group, is its own.
func (i *Instance) signal(signal syscall.Signal) error {
	err := unix.Kill(-i.PID(), signal)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), i.PID(), err)
}

// Done is closed when the process has ended and its output is read.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Exit says how the process ended; it is the zero Exit before Done is closed.
func (i *Instance) Exit() runtime.Exit {
	select {
	case <-i.done:
		return i.exit
	default:
		return runtime.Exit{}
	}
}

// watch starts the goroutines that own the process until Done.
func (i *Instance) watch() {
	for _, output := range i.outputs {
		i.reading.Go(output.run)
	}
	go i.reap()
}

// reap waits for the process, kills what it left in its group, and closes Done.
func (i *Instance) reap() {
	awaitExit(i.PID(), i.pidfd)
	i.mu.Lock()
	// On Linux the process is a zombie now, which keeps the number its own.
	killErr := i.signal(unix.SIGKILL)
	waitErr := i.cmd.Wait()
	i.reaped = true
	i.mu.Unlock()

	i.exit = exitOf(i.cmd, waitErr, killErr)
	// Children that were killed close their ends of the pipes as they die, so
	// this also waits for them.
	deadline := time.Now().Add(i.owner.config.OutputGrace)
	for _, output := range i.outputs {
		output.finish(deadline)
	}
	i.reading.Wait()
	i.owner.ended(i)
	close(i.done)
}

func exitOf(cmd *exec.Cmd, waitErr, killErr error) runtime.Exit {
	exit := runtime.Exit{Code: -1}
	var status *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &status) {
		exit.Message = fmt.Sprintf("wait for the process: %v", waitErr)
	}
	if killErr != nil && !errors.Is(killErr, unix.EPERM) { // macOS says so of a zombie
		exit.Message = fmt.Sprintf("end the process's children: %v", killErr)
	}
	if cmd.ProcessState == nil {
		return exit
	}
	exit.Code = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		exit.Signal = unix.SignalName(ws.Signal())
	}
	return exit
}
