package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// setAttributes gives the process a group of its own and ties its life to the
// thread that starts it (I1). pidfd receives a descriptor, or -1.
func setAttributes(cmd *exec.Cmd, pidfd *int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: pidfd}
}

// prepareThread denies the processes of this thread all gain of privileges: a
// setuid program would clear the parent-death signal and could not be killed.
func prepareThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("deny new privileges: %w", err)
	}
	return nil
}

// awaitExit returns when the process has ended, and leaves it unreaped. With a
// pidfd it waits in the poller and so costs no thread per process; it owns the pidfd.
func awaitExit(pid, pidfd int) {
	if pidfd >= 0 && awaitPidfd(pidfd) {
		return
	}
	// An error means that there is no such child any more; reaping says so, too.
	_, _ = hasEnded(unix.P_PID, pid, 0)
}

// awaitPidfd returns true when the process has ended, and false where this kernel
// cannot wait that way.
func awaitPidfd(pidfd int) bool {
	// Before NewFile, which lets only a non-blocking descriptor join the poller.
	nonblockErr := unix.SetNonblock(pidfd, true)
	file := os.NewFile(uintptr(pidfd), "pidfd")
	defer file.Close()
	raw, err := file.SyscallConn()
	if nonblockErr != nil || err != nil {
		return false
	}
	var ended bool
	var askErr error
	err = raw.Read(func(fd uintptr) bool {
		ended, askErr = hasEnded(unix.P_PIDFD, int(fd), unix.WNOHANG)
		return ended || askErr != nil
	})
	return ended && err == nil
}

// hasEnded asks without reaping.
func hasEnded(idType, id, options int) (bool, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && info.Signo != 0, err
		}
	}
}
