package drone

import "github.com/jetway-project/jetway/internal/procs"

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
