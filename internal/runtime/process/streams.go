package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
)

// streamNames are what a process writes to: descriptors 1 and 2.
var streamNames = [...]runtime.Stream{runtime.Stdout, runtime.Stderr}

// stream reads one stream of a process until its end.
type stream struct {
	pipe  *os.File
	lines *output.Lines

	mu       sync.Mutex // guards the pipe's read deadline
	finalEnd time.Time  // set when the process has ended: read no longer than this
}

// run reads until the last writer has closed the pipe, finish's time is up, or the pipe
// is closed here. It reads on when lines are dropped: the process must not hang on a
// full pipe.
func (s *stream) run() {
	defer s.pipe.Close()
	for {
		s.setDeadline()
		err := s.read()
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !s.final() {
			s.lines.Notify(time.Now())
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain()
		}
		s.lines.End()
		return
	}
}

// read waits for output and passes on what came. Only while there is some does it hold a
// buffer: most backends are silent most of the time, and there may be thousands.
func (s *stream) read() error {
	raw, err := s.pipe.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			if n, readErr = unix.Read(int(fd), s.lines.Space()); !errors.Is(readErr, syscall.EINTR) {
				break
			}
		}
		n = max(n, 0)
		if errors.Is(readErr, syscall.EAGAIN) {
			s.lines.Read(0) // gives the buffer back
			return false
		}
		return true
	})
	if err != nil {
		return err
	}
	s.lines.Read(n)
	if n == 0 && readErr == nil {
		return io.EOF
	}
	return readErr
}

// drain reads what is in the pipe now, which on a busy machine may have lain there all the
// time, and no more of it than a pipe holds: its writer may go on.
func (s *stream) drain() {
	const most = 64 << 10
	raw, err := s.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for total := 0; total < most; {
			n, err := unix.Read(int(fd), s.lines.Space())
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			s.lines.Read(max(n, 0))
			if n <= 0 {
				return
			}
			total += n
		}
	})
}

// finish makes run end when the time has come, although a child that escaped may
// still hold the pipe's other end.
func (s *stream) finish(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finalEnd = at
	_ = s.pipe.SetReadDeadline(at)
}

func (s *stream) final() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.finalEnd.IsZero() && !time.Now().Before(s.finalEnd)
}

// setDeadline wakes the next read when a notice about dropped lines is due.
func (s *stream) setDeadline() {
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := s.finalEnd
	if at := s.lines.NoticeAt(); !at.IsZero() && (deadline.IsZero() || at.Before(deadline)) {
		deadline = at
	}
	_ = s.pipe.SetReadDeadline(deadline)
}

// pipes makes a pipe per stream: what is read here, and the ends that the process gets.
func pipes() (readers, writers []*os.File, err error) {
	for _, name := range streamNames {
		reader, writer, err := os.Pipe()
		if err != nil {
			closeAll(readers)
			closeAll(writers)
			return nil, nil, fmt.Errorf("open a pipe for %s: %w", name, err)
		}
		readers, writers = append(readers, reader), append(writers, writer)
	}
	return readers, writers, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close() // nil has no harm
	}
}
