package process

import (
	"os/exec"
	"syscall"
	"unsafe"
)

// setAttributes gives the process a group of its own. There is no parent-death
// signal here: an agent that is killed leaves its processes, so a drone on this
// system is for development.
func setAttributes(cmd *exec.Cmd, _ *int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

func prepareThread() error { return nil }

// awaitExit returns when the process has ended, and leaves it unreaped. x/sys has
// no waitid for this system; this is the call that package os makes itself.
func awaitExit(pid, _ int) {
	const byPID = 1
	var info [16]uint64 // more than the 104 bytes of a siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}
