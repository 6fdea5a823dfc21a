package process

import (
	"errors"
	"fmt"
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

// stream is what is read of one stream of a process, until its end. It is read on when lines are
// dropped: the process must not hang on a full pipe. Most processes are silent most of the
// time, and there may be thousands: nothing is held for one that is.
type stream struct {
	lines *output.Lines
	id    int32 // the poller's

	mu sync.Mutex
	// pipe is nil once it has been read to its end, or let go. A read of it waits, so it is
	// asked first whether there is something.
	pipe *os.File
}

// heard reads what has come, and tells of lines that were dropped when it is time.
func (s *stream) heard(something bool) (again bool, noticeAt time.Time) {
	if !s.mu.TryLock() {
		return true, noticeAt // its end is being read, or it is let go
	}
	defer s.mu.Unlock()
	if s.pipe == nil {
		return false, noticeAt
	}
	if something && s.read() == 0 {
		s.end()
		return false, noticeAt
	}
	s.lines.Notify(time.Now())
	return true, s.lines.NoticeAt()
}

// read reads once; 0 is the end.
func (s *stream) read() int {
	for {
		n, err := unix.Read(int(s.pipe.Fd()), s.lines.Space())
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		s.lines.Read(max(n, 0)) // also gives the buffer back
		return max(n, 0)
	}
}

// finish reads what is left, until the last writer has closed the pipe or the time has come: a
// child that escaped may hold its other end. What lies in it then is read too, and no more
// of it than a pipe holds: its writer may go on.
func (s *stream) finish(poller *poller, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pipe == nil {
		return
	}
	poller.forget(s.id, int(s.pipe.Fd()))
	for late, most := 0, 64<<10; late < most; {
		left := max(time.Until(at), 0)
		asked := []unix.PollFd{{Fd: int32(s.pipe.Fd()), Events: unix.POLLIN}}
		events, err := unix.Poll(asked, int((left+time.Millisecond-1)/time.Millisecond))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if events == 0 {
			break
		}
		n := s.read()
		if n == 0 {
			break
		}
		if left == 0 {
			late += n
		}
	}
	s.end()
}

// letGo reads no more; the process runs on.
func (s *stream) letGo(poller *poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pipe != nil {
		poller.forget(s.id, int(s.pipe.Fd()))
		s.end()
	}
}

func (s *stream) end() {
	s.lines.End()
	_ = s.pipe.Close()
	s.pipe = nil
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
