package postgres

import "syscall"

// sysProcAttr: a process group of its own, so that a terminal's Ctrl-C reaches
// only us, and a fast shutdown when the thread that started it ends.
func sysProcAttr(a *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}
