package procs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ref holds on to one process. Its methods may be called from several goroutines,
// Close too.
type Ref struct {
	ID
	file *os.File // the pidfd, in the poller
	raw  syscall.RawConn
}

// Open holds on to a process; ErrGone when there is no such process any more.
func Open(id ID) (*Ref, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil, ErrGone // the others: the number is that of a thread now
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	r, err := Take(id, fd)
	if err != nil {
		return nil, err
	}
	// Only now: had the number been given anew before the pidfd was opened, the start
	// that is read here would be later.
	now, err := Identify(id.PID)
	if err == nil && now != id {
		err = ErrGone
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Take makes a Ref of a pidfd, which it owns from then on, also when it fails.
func Take(id ID, pidfd int) (*Ref, error) {
	// Before NewFile, which lets only a non-blocking descriptor join the poller.
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, fmt.Errorf("wait for process %d: %w", id.PID, err)
	}
	file := os.NewFile(uintptr(pidfd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("wait for process %d: %w", id.PID, err)
	}
	return &Ref{ID: id, file: file, raw: raw}, nil
}

// Close lets go of the process and ends a Wait.
func (r *Ref) Close() { _ = r.file.Close() }

// Signal signals the process, if it has not been reaped.
func (r *Ref) Signal(signal syscall.Signal) error { return r.send(signal, 0) }

// SignalGroup signals what there is of the process group that the process led, or
// still leads, also after its own end. Before Linux 6.9, only while the process has not
// been reaped: then the group's number is its own.
func (r *Ref) SignalGroup(signal syscall.Signal) error {
	err := r.send(signal, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	return r.signalLed(signal)
}

func (r *Ref) signalLed(signal syscall.Signal) error {
	if now, err := Identify(r.PID); err != nil || now != r.ID {
		return nil //nolint:nilerr // it is gone
	}
	err := unix.Kill(-r.PID, signal)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), r.PID, err)
	}
	return nil
}

func (r *Ref) send(signal syscall.Signal, flags int) error {
	var sendErr error
	err := r.raw.Control(func(fd uintptr) {
		sendErr = unix.PidfdSendSignal(int(fd), signal, nil, flags)
	})
	if err == nil && !errors.Is(sendErr, unix.ESRCH) {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(signal), r.PID, err)
	}
	return nil
}

// Ended says whether the process has ended, reaped or not.
func (r *Ref) Ended() bool {
	ended := true
	if err := r.raw.Control(func(fd uintptr) { ended = events(fd) != 0 }); err != nil {
		return false // closed: nothing can be told
	}
	return ended
}

// Control calls f with the pidfd, which poll calls readable once the process has ended.
func (r *Ref) Control(f func(fd uintptr)) error { return r.raw.Control(f) }

// Wait returns nil when the process has ended, reaped or not, and os.ErrClosed when
// the Ref was closed before. It waits in the poller and costs no thread.
func (r *Ref) Wait() error {
	return r.raw.Read(func(fd uintptr) bool { return events(fd) != 0 })
}

// waitReaped returns when the process has been reaped or the time is up.
func (r *Ref) waitReaped(atMost time.Duration) {
	_ = r.file.SetReadDeadline(time.Now().Add(atMost))
	_ = r.raw.Read(func(fd uintptr) bool { return events(fd)&unix.POLLHUP != 0 })
	_ = r.file.SetReadDeadline(time.Time{})
}

// events is what poll says of a pidfd: POLLIN once the process has ended, POLLHUP
// too once it has been reaped.
func events(fd uintptr) int16 {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); !errors.Is(err, unix.EINTR) {
			return fds[0].Revents
		}
	}
}
