package procs

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Seal keeps what this process was given from what it starts: descriptors that it has
// inherited (a lock, say, that its starter holds) are closed when it starts a program, and
// its environment and memory, with credentials in them, cannot be read by other processes of
// its user. Go itself marks what it opens. Call it before anything is started.
func Seal() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close this process to others: %w", err)
	}
	const first = 3 // after stdin, stdout and stderr
	if unix.CloseRange(first, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
