package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jetway-project/jetway/internal/runtime"
)

// maxLine is the length in bytes at which a line is split. It is also the read
// buffer, so one stream costs this much memory whatever is written to it.
const maxLine = 8 << 10

// window is the time over which output is limited.
const window = time.Second

// output reads one stream of a process until its end.
type output struct {
	pipe            *os.File
	stream          runtime.Stream
	log             func(runtime.Line)
	maxLines, bytes int // per window

	mu       sync.Mutex // guards the pipe's read deadline
	finalEnd time.Time  // set when the process has ended: read no longer than this

	windowEnd     time.Time
	lines, volume int // passed on in this window
	droppedLines  int // since the last notice
	droppedBytes  int
}

// run reads until the last writer has closed the pipe or finish's time is up.
// It reads on when lines are dropped: the process must not hang on a full pipe.
func (o *output) run() {
	defer o.pipe.Close()
	buffer := make([]byte, 0, maxLine)
	for {
		o.setDeadline()
		n, err := o.pipe.Read(buffer[len(buffer):cap(buffer)])
		buffer = o.emit(buffer[:len(buffer)+n])
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !o.final() {
			o.report(time.Now())
			continue
		}
		if len(buffer) > 0 {
			o.line(buffer)
		}
		o.report(time.Now().Add(window))
		return
	}
}

// finish makes run end when the time has come, although a child that escaped may
// still hold the pipe's other end.
func (o *output) finish(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finalEnd = at
	_ = o.pipe.SetReadDeadline(at)
}

func (o *output) final() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.finalEnd.IsZero() && !time.Now().Before(o.finalEnd)
}

// setDeadline wakes the next read when a notice about dropped lines is due.
func (o *output) setDeadline() {
	o.mu.Lock()
	defer o.mu.Unlock()
	deadline := o.finalEnd
	if o.droppedLines > 0 && (deadline.IsZero() || o.windowEnd.Before(deadline)) {
		deadline = o.windowEnd
	}
	_ = o.pipe.SetReadDeadline(deadline)
}

// emit passes the complete lines of the buffer on and returns the rest, moved to
// its beginning. A full buffer without an end of line is passed on as it is.
func (o *output) emit(buffer []byte) []byte {
	rest := buffer
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		o.line(rest[:end])
		rest = rest[end+1:]
	}
	if len(rest) == cap(buffer) {
		cut := wholeRunes(rest)
		o.line(rest[:cut])
		rest = rest[cut:]
	}
	return buffer[:copy(buffer[:cap(buffer)], rest)]
}

// wholeRunes returns the length of b without a character that its end cuts.
func wholeRunes(b []byte) int {
	for back := 1; back <= utf8.UTFMax && back < len(b); back++ {
		if start := len(b) - back; utf8.RuneStart(b[start]) {
			if !utf8.FullRune(b[start:]) {
				return start
			}
			break
		}
	}
	return len(b)
}

// line passes one line on, or counts it if the window is used up.
func (o *output) line(raw []byte) {
	now := time.Now()
	if !now.Before(o.windowEnd) {
		o.report(now)
		o.windowEnd, o.lines, o.volume = now.Add(window), 0, 0
	}
	if o.lines >= o.maxLines || o.volume+len(raw) > o.bytes {
		o.lines = o.maxLines // a shorter line must not overtake a dropped one
		o.droppedLines++
		o.droppedBytes += len(raw)
		return
	}
	o.lines++
	o.volume += len(raw)
	text := strings.ToValidUTF8(string(bytes.TrimSuffix(raw, []byte("\r"))), "\uFFFD")
	o.log(runtime.Line{Time: now, Stream: o.stream, Text: text})
}

// report passes on how much was dropped, once its window is over.
func (o *output) report(now time.Time) {
	if o.droppedLines == 0 || now.Before(o.windowEnd) {
		return
	}
	o.log(runtime.Line{Time: time.Now(), Stream: runtime.Notice, Text: fmt.Sprintf(
		"%d lines (%d bytes) of %s were dropped: over the limit of %d lines or %d bytes per second",
		o.droppedLines, o.droppedBytes, o.stream, o.maxLines, o.bytes)})
	o.droppedLines, o.droppedBytes = 0, 0
}
