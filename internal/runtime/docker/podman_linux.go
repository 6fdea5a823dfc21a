package docker

import (
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// usualFiles is systemd's hard limit for the descriptors of whatever it starts, a user's
// Podman too.
const usualFiles = 524_288

// usualProcesses is what small machines have room for. PidsLimit is what bounds a container.
const usualProcesses = 1 << 15

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
