package process

import (
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock lets a process do with a file.
const (
	landRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landFile  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | landWrite
	landWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// landFirst is all that its first version knows.
	landFirst = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
)

// Where programs find what they are made of, beside the process root; and the devices that belong
// to nobody.
var (
	systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/proc", "/sys"}
	devices    = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"}
)

// landlock is what the kernel has of it: its version, or why there is none.
type landlock struct {
	version int
	why     string
}

func findLandlock() (l landlock) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		l.version = int(version)
	case unix.EOPNOTSUPP:
		l.why = "Landlock is switched off in this kernel (lsm= of its command line)"
	default:
		l.why = fmt.Sprintf("this kernel has no Landlock, which takes Linux 5.13 or later (%v)", errno)
	}
	return l
}

// handled are the accesses that are denied but where they are allowed.
func (l landlock) handled() uint64 {
	handled := uint64(landFirst)
	for since, access := range map[int]uint64{2: unix.LANDLOCK_ACCESS_FS_REFER, 3: unix.LANDLOCK_ACCESS_FS_TRUNCATE, 5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV} {
		if l.version >= since {
			handled |= access
		}
	}
	return handled
}

// ruleset says what a backend may do: read and run what there is of the process root and the
// system, write its own directory and output, and signal nobody else.
func (r *Runtime) ruleset(backendID string, own home) (ruleset int, err error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: r.landlock.handled()}
	if r.landlock.version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, fmt.Errorf("landlock: %w", errno)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(int(fd))
		}
	}()
	written := append([]string{string(own)}, devices...)
	for _, name := range streamNames {
		written = append(written, r.fifo(backendID, name))
	}
	for _, path := range written {
		if err := r.allow(int(fd), path, r.landlock.handled()); err != nil {
			return -1, err
		}
	}
	for _, path := range append([]string{r.config.Root}, systemDirs...) {
		if err := r.allow(int(fd), path, landRead); err != nil {
			return -1, err
		}
	}
	return int(fd), nil
}

// allow allows something below a path, if that is there.
func (r *Runtime) allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	var stat unix.Stat_t
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &stat)
	}
	if err == nil {
		if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			access &= landFile
		}
		rule := unix.LandlockPathBeneathAttr{Allowed_access: access & r.landlock.handled(), Parent_fd: int32(fd)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			err = errno
		}
	}
	if err != nil {
		return &fs.PathError{Op: "landlock", Path: path, Err: err}
	}
	return nil
}

// confine holds the calling thread, and what it starts, to a ruleset for good.
func confine(ruleset int) error {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}
