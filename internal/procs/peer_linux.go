package procs

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// PeerOf is the process that listens at the other end of a Unix socket, as this one's PID namespace
// numbers it; 0 if it does not.
func PeerOf(conn net.Conn) (pid int) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return max(pid, 0)
}
