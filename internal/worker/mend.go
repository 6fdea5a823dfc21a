package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
)

const (
	// mendEvery is how often it is seen to that the streams are there, although nobody
	// has missed one: output lines are published without asking.
	mendEvery = 10 * time.Second
	// mendTimeout bounds one try.
	mendTimeout = 5 * time.Second
)

// mending is a publisher that says when there was no stream for what it published.
type mending struct {
	*bus.Publisher
	missing chan<- struct{} // holds one
}

// Publish is the publisher's.
func (m mending) Publish(msgs []*nats.Msg) func(context.Context) []error {
	acks := m.Publisher.Publish(msgs)
	return func(ctx context.Context) []error {
		errs := acks(ctx)
		if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, nats.ErrNoResponders) }) {
			select {
			case m.missing <- struct{}{}:
			default:
			}
		}
		return errs
	}
}

// watchBus makes good what the bus may have lost, whenever the connection was lost
// and is back, and when a stream is missing: perhaps it leads to another server now,
// with nothing in it. Then the streams are made again, all that is on record is
// published again (I3), and who waits for something on the bus looks for himself.
func (w *worker) watchBus(ctx context.Context) {
	connected := w.nc.StatusChanged(nats.CONNECTED)
	defer w.nc.RemoveStatusListener(connected)
	tick := time.NewTicker(mendEvery)
	defer tick.Stop()
	for {
		lost := true
		select {
		case _, open := <-connected:
			if !open {
				return
			}
			w.leaving.wakeAll()
		case <-w.missing:
		case <-tick.C:
			lost = false
		case <-ctx.Done():
			return
		}
		if w.mend(ctx) && lost {
			w.relay.Heal(true)
		}
	}
}

// mend makes the streams that are not there, trying until it can; false when the
// server has gone again, whose return begins it anew.
func (w *worker) mend(ctx context.Context) bool {
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	err := backoff.RetryNotify(func() error {
		if !w.nc.IsConnected() {
			return backoff.Permanent(nats.ErrDisconnected)
		}
		ctx, cancel := context.WithTimeout(ctx, mendTimeout)
		defer cancel()
		return bus.MakeMissingStreams(ctx, w.js, w.cfg.Streams)
	}, backoff.WithContext(pause, ctx), func(err error, d time.Duration) {
		w.log.Warn("cannot see to the streams, trying again", "in", d.Round(time.Millisecond), "err", err)
	})
	return err == nil
}
