package guard

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
)

// startOf is when a process started; ok is false when there is none.
func startOf(pid int) (start uint64, ok bool, err error) {
	id, err := procs.Identify(pid)
	if errors.Is(err, procs.ErrGone) {
		return 0, false, nil
	}
	return id.Start, err == nil, err
}

// lock takes the file for this process until it is closed. It is a lock that another
// process can ask about (see isLocked) without taking it, not even for a moment.
func lock(file *os.File) error {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &whole)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrHeld
	}
	return err
}

func isLocked(file *os.File) (bool, error) {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &whole)
	return whole.Type != unix.F_UNLCK, err
}
