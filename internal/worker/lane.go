package worker

import (
	"context"
	"sync"
)

// lane is a bounded queue in front of a fixed number of runners.
type lane struct {
	queue chan *request
	// again holds requests that waited for something; they were let in before.
	again   chan *request
	runners int
	batch   int // the most requests that a runner takes at once
	run     func(ctx context.Context, batch []*request)
	stop    chan struct{}
	wg      sync.WaitGroup
}

func newLane(size, runners, batch int, run func(context.Context, []*request)) *lane {
	return &lane{
		queue: make(chan *request, size), again: make(chan *request, maxParked),
		runners: runners, batch: batch, run: run, stop: make(chan struct{}),
	}
}

// offer puts a request into the queue unless it is full.
func (l *lane) offer(r *request) bool {
	select {
	case l.queue <- r:
		return true
	default:
		return false
	}
}

func (l *lane) start(ctx context.Context) {
	for range l.runners {
		l.wg.Go(func() { l.loop(ctx) })
	}
}

// finish runs what has been taken and returns when all of it is done. Nothing may
// be offered any more.
func (l *lane) finish() {
	close(l.stop)
	l.wg.Wait()
}

func (l *lane) loop(ctx context.Context) {
	batch := make([]*request, 0, l.batch)
	for {
		select {
		case r := <-l.again:
			batch = append(batch, r)
		case r := <-l.queue:
			batch = append(batch, r)
		case <-l.stop:
			if batch = l.more(batch); len(batch) == 0 {
				return
			}
		}
		batch = l.more(batch)
		l.run(ctx, batch)
		clear(batch)
		batch = batch[:0]
	}
}

// more adds what is waiting. No time is spent waiting for a batch to fill: while
// one runs the next gathers by itself.
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
