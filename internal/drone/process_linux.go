package drone

import (
	"net/netip"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
)

// startOf is when a process started, for the guard, which tells by it a number that is another's
// now; 0 where there is none.
func startOf(pid int) uint64 {
	if pid == 0 {
		return 0
	}
	id, err := procs.Identify(pid)
	if err != nil {
		return 0
	}
	return id.Start
}

// listening is where a backend listens, as far as that can be seen.
func listening(pid int, group string) []netip.AddrPort {
	members, _ := cgroup.Processes(group)
	return procs.Listening(append(members, pid)...)
}
