package drone

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jetway-project/jetway/internal/procs"
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
	pids := []int{pid}
	var raw []byte
	if group != "" {
		raw, _ = os.ReadFile(filepath.Join(group, "cgroup.procs"))
	}
	for word := range strings.FieldsSeq(string(raw)) {
		if member, err := strconv.Atoi(word); err == nil && member != pid {
			pids = append(pids, member)
		}
	}
	return procs.Listening(pids...)
}
