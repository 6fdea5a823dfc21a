package cli

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// progressLook is how often a worker is asked how far a backend's start is.
const progressLook = 2 * time.Second

// watchProgress is bus.Watch that also gives the progress of a loading backend, as states with the number of the one before and a new message.
// Progress is no event, so watchProgress asks a worker now and then; no answer is no error.
func watchProgress(r *run, f *clientFlags, nc *nats.Conn, backend string) iter.Seq2[messages.StateEvent, error] {
	type result struct {
		event messages.StateEvent
		err   error
	}
	return func(yield func(messages.StateEvent, error) bool) {
		ctx, cancel := context.WithCancel(r.ctx)
		results, stop := make(chan result), make(chan struct{})
		var wg sync.WaitGroup
		defer func() {
			cancel()
			close(stop)
			wg.Wait()
		}()
		wg.Go(func() {
			defer close(results)
			for event, err := range bus.Watch(ctx, nc, backend) {
				select {
				case results <- result{event, err}:
				case <-stop:
					return
				}
			}
		})
		look := r.ticker(progressLook)
		defer look.Stop()
		var last messages.State
		for {
			select {
			case got, open := <-results:
				if !open || !yield(got.event, got.err) {
					return
				}
				last = got.event.State
			case <-look.C:
				if last.Status != messages.Loading {
					continue
				}
				info, err := ask[messages.BackendInfo](r, f, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
				if err != nil || info.Status != messages.Loading || info.Message == last.Message {
					continue
				}
				last = info.State
				if !yield(messages.NewStateEvent(backend, r.now(), info.State), nil) {
					return
				}
			}
		}
	}
}
