// Package output cuts what a backend writes into lines and passes them on, within
// limits, for every runtime alike.
//
// What holds for each [Lines]:
//
//   - It costs one buffer of [MaxLine] bytes, whatever is written to it (I8), and none
//     while it has no beginning of a line to keep; while more comes than may be passed on,
//     a tail of at most 16 KiB besides.
//   - Of what is over the limit of a second the last lines, the tail, are passed on once that
//     second is over, or the output ends: why a backend dies stands at the end. What lies
//     between is dropped, counted, and told in a notice before them. The writer is never held up.
//   - Lines come in order; a longer one comes as several, none of which ends within
//     a character.
//
// A Lines belongs to one goroutine, starts none, and needs no closing.
package output

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jetway-project/jetway/internal/runtime"
)

// What one stream of one backend may pass on per second, in lines and in bytes.
const (
	LinesPerSecond = 500
	BytesPerSecond = 256 << 10
)

// MaxLine is the length in bytes at which a line is split.
const MaxLine = 8 << 10

// buffers are shared by all: few of the streams have something to say at a time.
var buffers = sync.Pool{New: func() any { return new([MaxLine]byte) }}

// window is the time over which output is limited.
const window = time.Second

// What is kept of the lines over the limit of a window.
const (
	tailLines = 100
	tailBytes = 16 << 10
)

// Lines takes one stream of a backend.
type Lines struct {
	stream          runtime.Stream
	log             func(runtime.Line)
	maxLines, bytes int // per window

	buffer        []byte // the beginning of a line; nil if there is none
	windowEnd     time.Time
	lines, volume int            // passed on in this window
	tail          []runtime.Line // the last over the limit
	tailVolume    int
	droppedLines  int // before them
	droppedBytes  int
}

// New passes the lines of a stream to log (nil drops them), at most maxLines of them
// and maxBytes per second, and a tail.
func New(stream runtime.Stream, log func(runtime.Line), maxLines, maxBytes int) *Lines {
	if log == nil {
		log = func(runtime.Line) {}
	}
	return &Lines{stream: stream, log: log, maxLines: maxLines, bytes: maxBytes}
}

// Space is where to read the next bytes to, before Read is told how many came. It is
// never empty. Until Read is called it holds a buffer.
func (l *Lines) Space() []byte {
	if l.buffer == nil {
		l.buffer = buffers.Get().(*[MaxLine]byte)[:0]
	}
	return l.buffer[len(l.buffer):cap(l.buffer)]
}

// Read passes on the lines that the first n bytes of Space complete. n may be 0.
func (l *Lines) Read(n int) {
	if l.buffer == nil {
		return
	}
	l.emit(l.buffer[:len(l.buffer)+n])
	l.release()
}

// release gives an empty buffer back.
func (l *Lines) release() {
	if l.buffer != nil && len(l.buffer) == 0 {
		buffers.Put((*[MaxLine]byte)(l.buffer[:MaxLine]))
		l.buffer = nil
	}
}

// Write is Space and Read for bytes that lie elsewhere.
func (l *Lines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(l.Space(), rest)
		l.Read(n)
		rest = rest[n:]
	}
	return len(p), nil
}

// End passes on a last line without an end, and the last notice.
func (l *Lines) End() {
	if len(l.buffer) > 0 {
		l.line(l.buffer)
		l.buffer = l.buffer[:0]
	}
	l.release()
	l.Notify(time.Now().Add(window))
}

// NoticeAt is when Notify has something to pass on, the zero time if there is nothing.
func (l *Lines) NoticeAt() time.Time {
	if len(l.tail) == 0 {
		return time.Time{}
	}
	return l.windowEnd
}

// Notify passes on how much was dropped, and the lines after it, once their window is over.
func (l *Lines) Notify(now time.Time) {
	if len(l.tail) == 0 || now.Before(l.windowEnd) {
		return
	}
	if l.droppedLines > 0 {
		l.log(runtime.Line{Time: time.Now(), Stream: runtime.Notice, Text: fmt.Sprintf(
			"%d lines (%d bytes) of %s were dropped: over the limit of %d lines or %d bytes per second",
			l.droppedLines, l.droppedBytes, l.stream, l.maxLines, l.bytes)})
	}
	for _, line := range l.tail {
		l.log(line)
	}
	l.tail, l.tailVolume, l.droppedLines, l.droppedBytes = nil, 0, 0, 0
}

// emit passes the complete lines of the buffer on and keeps the rest, moved to its
// beginning. A full buffer without an end of line is passed on as it is.
func (l *Lines) emit(buffer []byte) {
	rest := buffer
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		l.line(rest[:end])
		rest = rest[end+1:]
	}
	if len(rest) == cap(buffer) {
		cut := wholeRunes(rest)
		l.line(rest[:cut])
		rest = rest[cut:]
	}
	l.buffer = buffer[:copy(buffer[:cap(buffer)], rest)]
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

// line passes one line on, or keeps it as the last if the window is used up.
func (l *Lines) line(raw []byte) {
	now := time.Now()
	if !now.Before(l.windowEnd) {
		l.Notify(now)
		l.windowEnd, l.lines, l.volume = now.Add(window), 0, 0
	}
	line := runtime.Line{Time: now, Stream: l.stream, Text: strings.ToValidUTF8(string(bytes.TrimSuffix(raw, []byte("\r"))), "\uFFFD")}
	if l.lines >= l.maxLines || l.volume+len(raw) > l.bytes {
		l.lines = l.maxLines // a shorter line must not overtake one that is kept back
		l.keep(line)
		return
	}
	l.lines++
	l.volume += len(raw)
	l.log(line)
}

// keep has a line be one of the last, and drops those before it that are too many.
func (l *Lines) keep(line runtime.Line) {
	l.tail = append(l.tail, line)
	l.tailVolume += len(line.Text)
	n := 0
	for ; len(l.tail)-n > tailLines || l.tailVolume > tailBytes; n++ {
		l.droppedLines++
		l.droppedBytes += len(l.tail[n].Text)
		l.tailVolume -= len(l.tail[n].Text)
		l.tail[n].Text = "" // append moves what is left when it has run out of room
	}
	l.tail = l.tail[n:]
}
