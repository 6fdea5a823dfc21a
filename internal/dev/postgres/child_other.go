//go:build !linux

package postgres

import "syscall"

// sysProcAttr: a process group of its own, so that a terminal's Ctrl-C reaches
// only us. If we are killed the server goes on; the next Start ends it.
func sysProcAttr(a *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}
