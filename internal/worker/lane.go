package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// lane is a bounded queue in front of a bounded number of runs.
//
// A run takes what waits. Nobody waits for company: while nothing runs, a request
// begins at once. Only beside another run does one begin with `enough` requests or
// more; what is less gathers until then, or until the other has finished. So a
// statement is not made for a handful when many are on their way.
//
// What it holds is bounded in number and in bytes (I8): a request counts from its
// arrival until it is replied to or handed back, also while it runs or waits for a backend to leave.
type lane struct {
	name  string
	queue chan *request
	// again holds requests that waited for something; they were let in before.
	again   chan *request
	runners int // the most runs at once
	batch   int // the most requests that a run takes
	enough  int
	run     func(ctx context.Context, batch []*request)
	ran     chan struct{} // a run has ended
	stop    chan struct{}
	wg      sync.WaitGroup
	counts  *metrics.Lane // nil: batches are not counted
	moved   progress
	// bytes is what its requests hold.
	bytes atomic.Int64
	// gathered is how many were taken off the queue for a run that has not begun.
	gathered atomic.Int32
}

func newLane(name string, size, runners, batch int, run func(context.Context, []*request)) *lane {
	return &lane{
		name: name, moved: progress{began: time.Now()},
		queue: make(chan *request, size), again: make(chan *request, maxParked),
		runners: runners, batch: batch, enough: (batch + 3) / 4, run: run,
		ran: make(chan struct{}, runners), stop: make(chan struct{}),
	}
}

// Bounds of what waits in a worker, in bytes: half of it in lanes, which refuse what is more, and half
// before them, in the NATS client, which drops what is more. That can only be what comes faster than it can be refused.
const (
	waitingBytes = 256 << 20
	laneBytes    = waitingBytes / 2 / 8  // of 8 lanes
	pendingBytes = waitingBytes / 2 / 13 // of 13 endpoints
	// pendingRequests bounds what the client keeps beside the bytes of small ones.
	pendingRequests = 1 << 15
)

// offer puts a request into the queue, or says why it cannot.
func (l *lane) offer(r *request) error {
	if l.waiting() == 0 {
		l.moved.at(r.arrived)
	}
	size := r.size()
	if l.bytes.Add(size) > laneBytes {
		l.bytes.Add(-size)
		return messages.Errorf(messages.Overloaded, "requests of %d MiB are waiting; ask again in a moment", laneBytes>>20)
	}
	r.lane = l
	select {
	case l.queue <- r:
		return nil
	default:
		return messages.Errorf(messages.Overloaded, "%d requests are waiting; ask again in a moment", cap(l.queue))
	}
}

// waiting says how many requests no run has taken yet.
func (l *lane) waiting() int { return len(l.queue) + int(l.gathered.Load()) }

func (l *lane) start(ctx context.Context) {
	l.wg.Go(func() { l.loop(ctx) })
}

// finish runs what has been taken and returns when all of it is done. Nothing may
// be offered any more.
func (l *lane) finish() {
	close(l.stop)
	l.wg.Wait()
}

func (l *lane) loop(ctx context.Context) {
	var batch []*request
	running, stop := 0, l.stop
	for {
		queue, again := l.queue, l.again
		if len(batch) == l.batch {
			queue, again = nil, nil
		}
		select {
		case r := <-again:
			batch = append(batch, r)
		case r := <-queue:
			batch = append(batch, r)
		case <-l.ran:
			running--
		case <-stop:
			stop = nil
		}
		batch = l.more(batch)
		if len(batch) > 0 && (running == 0 || running < l.runners && len(batch) >= l.enough) {
			running++
			taken, began := batch, time.Now()
			batch = nil
			l.moved.at(began)
			l.wg.Go(func() {
				l.run(ctx, taken)
				l.counts.Batch(len(taken), time.Since(began))
				l.ran <- struct{}{}
			})
		}
		l.gathered.Store(int32(len(batch)))
		if stop == nil && running == 0 && len(batch) == 0 {
			return
		}
	}
}

// more adds what is waiting.
func (l *lane) more(batch []*request) []*request {
	for len(batch) < l.batch {
		select {
		case r := <-l.again:
			batch = append(batch, r)
		case r := <-l.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}
