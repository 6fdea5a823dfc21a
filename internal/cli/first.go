package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/jetway-project/jetway/internal/procs"
)

// isFirst says whether this is the first process of a container, and the command starts processes that may leave orphans. The kernel gives the
// first process all orphans to reap. Who reaps orphans waits for any child, and so takes away the exit codes that the command waits for: that
// is why the command runs as a child of its own; see asFirst.
func isFirst(args []string) bool {
	return os.Getpid() == 1 && (slices.Contains(args, "drone") || slices.Contains(args, "dev"))
}

// asFirst runs a program as its child, reaps all orphans until the program has ended, and returns its exit code. It sends the program a
// SIGTERM when ctx ends, and another one when kill is closed after that.
func asFirst(ctx context.Context, stderr io.Writer, kill <-chan struct{}, program string, args ...string) int {
	failed := func(err error) int {
		fmt.Fprintf(stderr, "jetway: run as the first process: %v\n", err)
		return ExitFailed
	}
	if err := procs.Seal(); err != nil { // it has the same environment
		return failed(err)
	}
	child, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		// A terminal's signals come to this process alone, which passes them on.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return failed(err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for _, asked := range []<-chan struct{}{ctx.Done(), kill} {
			select {
			case <-asked:
				_ = child.Signal(syscall.SIGTERM)
			case <-ended:
				return
			}
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return failed(err)
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == child.Pid:
			return status.ExitStatus()
		}
	}
}
