package docker

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// endPatience is how long killed processes may take to end.
const endPatience = 5 * time.Second

// killWithoutEngine kills what runs in a container's cgroup, and when it has ended,
// ends the instance without the engine's word. The first process of a container takes
// all others with it.
func (r *Runtime) killWithoutEngine(i *Instance) error {
	if !r.local {
		return errors.New("its processes are not on this machine")
	}
	killed, err := killMembers(i.id)
	if err != nil {
		return err
	}
	if killed == 0 && i.pid == 0 {
		return errors.New("its processes cannot be seen from here")
	}
	i.finish(runtime.Exit{Code: -1, Signal: "SIGKILL", Message: "killed without Docker, which did not answer"})
	return nil
}

// killMembers kills all processes in a container's cgroup and returns how many there
// were, once they have ended.
func killMembers(id string) (killed int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("look for the container's processes: %w", err)
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	var errs []error
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || !runsIn(pid, id) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		fds = append(fds, fd)
		// Once more: the number was another's when it was looked at.
		if !runsIn(pid, id) {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
			continue
		}
		killed++
	}
	deadline := time.Now().Add(endPatience)
	for _, fd := range fds {
		if !awaitEnd(fd, deadline) {
			errs = append(errs, errors.New("a process of the container did not end"))
		}
	}
	return killed, errors.Join(errs...)
}

// awaitEnd says whether the process of a pidfd ends in time.
func awaitEnd(fd int, deadline time.Time) bool {
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n == 1
		}
	}
}
