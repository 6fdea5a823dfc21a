package procs

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapPatience is how long the parent of a process, for orphans init, gets to reap it
// before its exit status counts as unknown.
const reapPatience = time.Second

// ExitStatus is how a process ended that is not a child of this one; call it after
// Wait. Since Linux 6.15 the kernel keeps the status for who holds a pidfd. Before, it
// can be read only until the process is reaped, which may be too soon: ok is false.
func (r *Ref) ExitStatus() (status syscall.WaitStatus, ok bool) {
	// What /proc has is gone first.
	if status, ok = r.zombieStatus(); ok {
		return status, ok
	}
	if status, ok = r.keptStatus(); ok {
		return status, ok
	}
	r.waitReaped(reapPatience)
	return r.keptStatus()
}

// zombieStatus reads the status from /proc. What may not be read there reads as 0,
// so a 0 counts only of processes that are this user's, or for root.
func (r *Ref) zombieStatus() (status syscall.WaitStatus, ok bool) {
	info, err := os.Stat("/proc/" + strconv.Itoa(r.PID))
	if err != nil {
		return 0, false
	}
	stat, err := Read(r.PID)
	if err != nil || stat.ID != r.ID || !stat.Zombie {
		return 0, false
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	mine := known && int(owner.Uid) == os.Geteuid() || os.Geteuid() == 0
	return stat.ExitStatus, stat.ExitStatus != 0 || mine
}

// keptStatus asks the pidfd, which tells once the process has been reaped.
func (r *Ref) keptStatus() (status syscall.WaitStatus, ok bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	var askErr error
	err := r.raw.Control(func(fd uintptr) { askErr = unix.IoctlPidfdInfo(int(fd), &info) })
	ok = errors.Join(err, askErr) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
	return syscall.WaitStatus(info.Exit_code), ok
}
