package process

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// reapChild waits for a child.
func reapChild(pid int) runtime.Exit {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case err == nil:
			return exitOf(status)
		case !errors.Is(err, unix.EINTR):
			return runtime.Exit{Code: -1, Message: fmt.Sprintf("wait for the process: %v", err)}
		}
	}
}

// exitOf reads a wait status.
func exitOf(status syscall.WaitStatus) runtime.Exit {
	if status.Signaled() {
		return runtime.Exit{Code: -1, Signal: unix.SignalName(status.Signal())}
	}
	return runtime.Exit{Code: status.ExitStatus()}
}
