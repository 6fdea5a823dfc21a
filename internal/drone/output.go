package drone

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

const (
	// maxLines bounds the lines of all backends that wait to be published (I8).
	maxLines = 1024
	// maxLastWords and maxWord bound what is kept of a backend's output, for the message
	// should it end without being asked.
	maxLastWords = 10
	maxWord      = 300
)

// streamDrone marks lines that the drone says about a backend's output.
const streamDrone = "drone"

// publisher puts the backends' output on the bus. It never makes a backend wait:
// where its queue is full the oldest line gives way, and that, like one that cannot be sent,
// is counted.
type publisher struct {
	nc    *nats.Conn
	queue chan queuedLine
}

type queuedLine struct {
	of   *lines
	line messages.LogLine
}

func newPublisher(nc *nats.Conn) *publisher {
	return &publisher{nc: nc, queue: make(chan queuedLine, maxLines)}
}

// run publishes until ctx ends, and then what is still queued.
func (p *publisher) run(ctx context.Context) {
	for {
		select {
		case l := <-p.queue:
			p.publish(l)
		case <-ctx.Done():
			for {
				select {
				case l := <-p.queue:
					p.publish(l)
				default:
					return
				}
			}
		}
	}
}

func (p *publisher) publish(l queuedLine) {
	if dropped := l.of.dropped.Swap(0); dropped > 0 {
		notice := messages.LogLine{Time: time.Now().UTC(), Stream: streamDrone, Line: fmt.Sprintf("%d lines were dropped about here: more came than could be sent", dropped)}
		if p.nc.Publish(l.of.subject, messages.Encode(notice)) != nil {
			l.of.dropped.Add(dropped)
		}
	}
	if l.line.Line == "" && l.line.Stream == "" {
		return // asked only for the notice
	}
	if p.nc.Publish(l.of.subject, messages.Encode(l.line)) != nil {
		l.of.dropped.Add(1)
	}
}

// lines takes the output of one backend.
type lines struct {
	to      *publisher
	subject string
	dropped atomic.Int64

	mu     sync.Mutex
	latest []string
}

func (p *publisher) lines(backend string) *lines {
	return &lines{to: p, subject: messages.LogSubject(backend)}
}

// add takes a line; it never waits.
func (l *lines) add(line runtime.Line) {
	stream := string(line.Stream)
	if line.Stream == runtime.Notice {
		stream = streamDrone
	} else {
		l.keepLatest(line.Text)
	}
	l.enqueue(messages.LogLine{Time: line.Time.UTC(), Stream: stream, Line: line.Text})
}

func (l *lines) enqueue(line messages.LogLine) {
	for {
		select {
		case l.to.queue <- queuedLine{l, line}:
			return
		default:
		}
		select {
		case oldest := <-l.to.queue:
			if oldest.line.Stream != "" {
				oldest.of.dropped.Add(1)
			}
		default: // the publisher was sooner
		}
	}
}

func (l *lines) keepLatest(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.latest) == maxLastWords {
		l.latest = append(l.latest[:0], l.latest[1:]...)
	}
	l.latest = append(l.latest, clean(text, maxWord))
}

// lastWords are the latest lines of a backend.
func (l *lines) lastWords() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.latest)
}

// close says how many lines were dropped, if there is nothing more to come.
func (l *lines) close() {
	if l.dropped.Load() > 0 {
		l.enqueue(messages.LogLine{})
	}
}
