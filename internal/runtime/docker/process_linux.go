package docker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
)

// held is a process that is not a child of this one, with the control group of its container,
// where there is one that this process can read.
type held struct {
	*procs.Ref
	group *cgroup.Group
}

// hold takes hold of a container's process by its pidfd; nil where this machine has no such
// process, because the engine is elsewhere or the process has ended.
func (r *Runtime) hold(pid int, i *Instance) process {
	id, err := procs.Identify(pid)
	if !r.local || err != nil || !r.isOf(pid, i) {
		return nil
	}
	ref, err := procs.Open(id) // which fails if the number was another's when it was looked at
	if err != nil {
		return nil
	}
	return held{ref, cgroup.Of(pid, i.id)}
}

// isOf says whether a process is one of a container: by the name of its control group, which no
// process can choose, or where a rootless engine has none, by what it was started with.
func (r *Runtime) isOf(pid int, i *Instance) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	groups, _ := os.ReadFile(dir + "/cgroup")
	raw, _ := os.ReadFile(dir + "/environ")
	env := procs.Env(raw)
	return bytes.Contains(groups, []byte(i.id)) || env.Has(runtime.EnvBackendID, i.backendID) && env.Has(runtime.EnvDrone, r.config.Drone)
}

func (h held) Usage() (usage runtime.Usage, known bool) {
	if h.group == nil {
		return usage, false
	}
	return h.group.Usage()
}

func (h held) OutOfMemory() bool { return h.group != nil && h.group.OutOfMemory() > 0 }

func (h held) Thaw() error { return cgroup.ThawV1(h.PID) }

func (h held) Reclaim(bytes uint64) (got uint64, more bool, err error) {
	if h.group == nil {
		return 0, false, nil
	}
	return h.group.Reclaim(bytes)
}

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

// near says whether the engine at a socket runs in this process's PID namespace, as far as can be seen.
func near(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, greetTimeout)
	if err != nil {
		return false
	}
	defer conn.Close()
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", procs.PeerOf(conn)))
	own, ownErr := os.Readlink("/proc/self/ns/pid")
	return err == nil && ownErr == nil && its == own
}

// isGone says that there is no process of that number.
func isGone(pid int) bool {
	_, err := procs.Identify(pid)
	return errors.Is(err, procs.ErrGone)
}

// boundless says that the engine at a socket can bound nothing that its containers use: it is
// a user's, and the controllers are on version 1, where only root may use them.
func boundless(socket string) bool {
	var info unix.Stat_t
	return unix.Stat(socket, &info) == nil && info.Uid != 0 && unix.Access("/sys/fs/cgroup/cgroup.controllers", unix.F_OK) != nil
}

const (
	// usualFiles is systemd's hard limit for the descriptors of whatever it starts, a user's
	// Podman too.
	usualFiles = 524_288
	// usualProcesses is what small machines have room for. PidsLimit is what bounds a container.
	usualProcesses = 1 << 15
)

// ownLimits are limits that an engine may set without the right to raise its own, supposed
// that it has this process's and what systemd gives. Podman asks for more unless it is told.
func ownLimits() (limits []*container.Ulimit) {
	for _, limit := range []struct {
		name     string
		resource int
		most     uint64
	}{{"nofile", unix.RLIMIT_NOFILE, usualFiles}, {"nproc", unix.RLIMIT_NPROC, usualProcesses}} {
		var own unix.Rlimit
		if unix.Getrlimit(limit.resource, &own) == nil {
			value := int64(min(own.Max, limit.most))
			limits = append(limits, &container.Ulimit{Name: limit.name, Soft: value, Hard: value})
		}
	}
	return limits
}
