package docker

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// hold takes hold of a container's process by its pidfd; nil where this machine has no such
// process, because the engine is elsewhere or the process has ended.
func (r *Runtime) hold(pid int, i *Instance) process {
	if !r.local || !r.isOf(pid, i) {
		return nil
	}
	id, err := procs.Identify(pid)
	if err != nil {
		return nil
	}
	ref, err := procs.Open(id)
	if err != nil {
		return nil
	}
	if !r.isOf(pid, i) { // once more: the number was another's when it was looked at
		ref.Close()
		return nil
	}
	return held{ref}
}

// isOf says whether a process is one of a container: by the name of its control group, which no
// process can choose, or where a rootless engine has none, by what it was started with.
func (r *Runtime) isOf(pid int, i *Instance) bool {
	if runsIn(pid, i.id) {
		return true
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || pid <= 0 {
		return false
	}
	env := procs.Env(raw)
	return env.Has(runtime.EnvBackendID, i.backendID) && env.Has(runtime.EnvDrone, r.config.Drone)
}

// held is a process that is not a child of this one.
type held struct{ *procs.Ref }

// exit is how the process ended, as far as the kernel still knows; in Docker's way, in which
// a signal is 128 more than its number.
func (h held) exit() runtime.Exit {
	exit := runtime.Exit{Code: -1, Message: "it ended while the engine did not answer"}
	if status, ok := h.ExitStatus(); ok {
		exit.Code = status.ExitStatus()
		if status.Signaled() {
			exit.Code = 128 + int(status.Signal())
		}
	}
	return exit
}

// killMembers kills what runs in a container of which no process is held.
func (r *Runtime) killMembers(i *Instance) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("look for the container's processes: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if p := r.hold(pid, i); p != nil {
				errs = append(errs, p.Signal(syscall.SIGKILL))
				p.Close()
			}
		}
	}
	return errors.Join(errs...)
}
