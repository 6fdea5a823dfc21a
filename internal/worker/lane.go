package worker

import (
	"context"
	"math"
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
// more; what is less waits until then, or until the other has finished. So a
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
	// queued is how many requests no run has taken yet, least how many the loop waits for.
	queued, least atomic.Int32
	wake          chan struct{} // there are so many
}

func newLane(name string, size, runners, batch int, run func(context.Context, []*request)) *lane {
	return &lane{
		name: name, moved: progress{began: time.Now()},
		queue: make(chan *request, size), again: make(chan *request, maxParked),
		runners: runners, batch: batch, enough: (batch + 3) / 4, run: run,
		ran: make(chan struct{}, runners), stop: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// Bounds of what waits in a worker, in bytes: half of it in its 8 lanes, which refuse what is more, and half
// before them, in the NATS client, which drops what is more. That can only be what comes faster than it can be refused.
const (
	waitingBytes = 256 << 20
	laneBytes    = waitingBytes / 2 / 8
	// pendingBytes is what an endpoint may have in the client, pendingByHand one that people ask, and who lists.
	pendingBytes  = 10 << 20
	pendingByHand = 3 << 20
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
		l.added()
		return nil
	default:
		return messages.Errorf(messages.Overloaded, "%d requests are waiting; ask again in a moment", cap(l.queue))
	}
}

// retry puts a request in again that waited for something; false when there is no room.
func (l *lane) retry(r *request) bool {
	select {
	case l.again <- r:
		l.added()
		return true
	default:
		return false
	}
}

// waiting says how many requests no run has taken yet.
func (l *lane) waiting() int { return int(max(l.queued.Load(), 0)) }

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
	running, stop := 0, l.stop
	for {
		least := int32(l.enough)
		switch running {
		case 0:
			least = 1
		case l.runners:
			least = math.MaxInt32
		}
		// It says how many it waits for, and then looks how many there are; who adds one does it the
		// other way round. So one of the two sees the other, and nobody waits for a word that does not come.
		l.least.Store(least)
		if l.queued.Load() >= least {
			running++
			taken, began := l.take(), time.Now()
			l.moved.at(began)
			l.wg.Go(func() {
				l.run(ctx, taken)
				l.counts.Batch(len(taken), time.Since(began))
				l.ran <- struct{}{}
			})
			continue
		}
		if stop == nil && running == 0 {
			return
		}
		select {
		case <-l.wake:
		case <-l.ran:
			running--
		case <-stop:
			stop = nil
		}
	}
}

// added counts one more that waits, and wakes the loop if it waits for no more: it is not woken for each.
func (l *lane) added() {
	if l.queued.Add(1) < l.least.Load() {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take gives what waits, as much as a run takes.
func (l *lane) take() (batch []*request) {
	defer func() { l.queued.Add(-int32(len(batch))) }()
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
