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

// isFirst says that this is the first process of a container, to which all orphans are
// given, and the command starts what may leave some. Who reaps them must wait for any child,
// which none may that waits for its own: so the command itself is a child, see asFirst.
func isFirst(args []string) bool {
	return os.Getpid() == 1 && (slices.Contains(args, "drone") || slices.Contains(args, "dev"))
}

// asFirst runs a program as its child and reaps whatever it is given until that has ended,
// whose exit code it returns. The end of ctx, and a close of kill after it, are a SIGTERM each.
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
