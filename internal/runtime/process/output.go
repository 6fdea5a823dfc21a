package process

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/runtime/output"
)

// stream reads one stream of a process until its end.
type stream struct {
	pipe  *os.File
	lines *output.Lines

	mu       sync.Mutex // guards the pipe's read deadline
	finalEnd time.Time  // set when the process has ended: read no longer than this
}

// run reads until the last writer has closed the pipe or finish's time is up.
// It reads on when lines are dropped: the process must not hang on a full pipe.
func (s *stream) run() {
	defer s.pipe.Close()
	for {
		s.setDeadline()
		n, err := s.pipe.Read(s.lines.Space())
		s.lines.Read(n)
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !s.final() {
			s.lines.Notify(time.Now())
			continue
		}
		s.lines.End()
		return
	}
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
