package bus_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// crowd are many who watch few backends at the same time.
type crowd struct {
	t        *testing.T
	backends int
	conns    []*nats.Conn
	js       jetstream.JetStream
	watchers int
	// proceed is closed when they may read on: until then each has seen the past alone.
	proceed chan struct{}
	ended   sync.WaitGroup
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	url, _, js := withStreams(t)
	c := &crowd{t: t, backends: testkit.Sized(t, 10, 100), js: js, proceed: make(chan struct{})}
	for range 4 {
		c.conns = append(c.conns, watchConn(t, url))
	}
	for b := range c.backends {
		publishStates(t, js, fmt.Sprintf("b%d", b), messages.Scheduled, messages.Loading)
	}
	t.Cleanup(c.ended.Wait)
	return c
}

// grow lets so many more begin, and returns when they have seen the past.
func (c *crowd) grow(ctx context.Context, n int) {
	c.t.Helper()
	var begun sync.WaitGroup
	begun.Add(n)
	// They live at the same time. That they begin in the same moment is not asked for.
	starting := make(chan struct{}, 32)
	for range n {
		nc, backend := c.conns[c.watchers%len(c.conns)], fmt.Sprintf("b%d", c.watchers%c.backends)
		c.watchers++
		c.ended.Go(func() {
			var got []messages.Status
			starting <- struct{}{}
			started := sync.OnceFunc(func() { <-starting; begun.Done() })
			defer started() // also of one that fails, so that the test does not hang
			for event, err := range client.New(nc).Watch(ctx, backend) {
				if err != nil {
					if ctx.Err() == nil {
						c.t.Errorf("watch: %v", err)
					}
					return
				}
				if got = append(got, event.Status); len(got) == 2 {
					started()
					select {
					case <-c.proceed:
					case <-ctx.Done():
					}
				}
			}
			if !slices.Equal(got, messages.Statuses) {
				c.t.Errorf("saw %v", got)
			}
		})
	}
	begun.Wait()
}

// I8: thousands who watch at once see all, and cost the server no consumer.
func TestI8ThousandsOfWatchersCostNoConsumer(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.grow(t.Context(), testkit.Sized(t, 200, 5000)) // many small waits, none of which is bounded alone
	wantNoConsumers(t, c.js)
	close(c.proceed)
	for b := range c.backends {
		publishStates(t, c.js, fmt.Sprintf("b%d", b), messages.Statuses[2:]...)
	}
	c.ended.Wait()
	wantNoConsumers(t, c.js)
}

// I8: a watch holds what is bounded, whoever else watches. Not beside other tests, whose
// memory this would measure.
func TestI8MemoryOfAWatcherIsBounded(t *testing.T) {
	c := newCrowd(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := testkit.Sized(t, 500, 2500)
	c.grow(ctx, n) // with what is allocated for the first ones alone
	before := heap()
	c.grow(ctx, n)
	if each := (heap() - before) / int64(n); each > 20<<10 {
		t.Errorf("with %d more a watcher takes %d bytes", n, each)
	} else {
		t.Logf("with %d more a watcher takes %d bytes", n, each)
	}
	cancel()
	close(c.proceed)
}

// heap is what lives, in bytes, stacks included.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
