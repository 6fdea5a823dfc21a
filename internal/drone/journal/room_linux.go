package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves a file's room up to a size, which it does not get by that. Where the file
// system cannot do that, there is none, and writing tells.
func allocate(file *os.File, size int64) error {
	var limit unix.Rlimit // which the kernel looks at when it writes
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err == nil && uint64(size) > limit.Cur {
		return unix.EFBIG
	}
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
