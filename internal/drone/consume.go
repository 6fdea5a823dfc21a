package drone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
)

// actionSilence is how long a consumer that is there can be silent at most: two of its
// heartbeats, and what a slow network adds.
const actionSilence = 2*bus.ActionHeartbeat + time.Second

// consume takes actions from the consumer that the newest registration named,
// until ctx ends; none while no session is registered, for then they are for another
// agent of the drone's name. A consumer or stream that vanished (a server lost its data)
// is made again by a worker when the drone registers again.
func (a *agent) consume(ctx context.Context) {
	tries := pause.Growing(100*time.Millisecond, 2*time.Second)
	var from registration
	for {
		for from == (registration{}) {
			select {
			case from = <-a.registered:
			case <-ctx.Done():
				return
			}
		}
		next, opened, err := a.consumeFrom(ctx, from)
		if ctx.Err() != nil {
			return
		}
		if opened {
			tries.Reset()
		}
		if from = next; err == nil {
			continue
		}
		wait := tries.NextBackOff()
		a.log.WarnContext(ctx, "actions do not arrive, registering again", "in", wait.Round(time.Millisecond), "err", err)
		if !pause.Sleep(ctx, wait) {
			return
		}
		a.needRegistration()
	}
}

// consumeFrom takes actions until they are to be taken from elsewhere, which it gives,
// or until ctx ends or the consumer seems to be lost, and then gives the reason. opened
// says that they could arrive.
func (a *agent) consumeFrom(ctx context.Context, from registration) (next registration, opened bool, err error) {
	// Room for what the consumer delivers before it is acknowledged, and heartbeats.
	arrived := make(chan *nats.Msg, 2*bus.MaxUnacknowledged)
	back := a.nc.StatusChanged(nats.CONNECTED)
	defer a.nc.RemoveStatusListener(back)
	sub, err := a.nc.ChanSubscribe(messages.DeliverSubject(a.cfg.Name), arrived)
	if err != nil {
		return next, false, fmt.Errorf("listen for actions: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := a.nc.FlushTimeout(5 * time.Second); err != nil {
		return next, false, fmt.Errorf("listen for actions: %w", err)
	}
	a.setConsuming(from.session, true)
	// Before the drone registers again nothing of this is under way any more.
	defer a.setConsuming(from.session, false)
	silence := time.NewTimer(actionSilence)
	defer silence.Stop()
	for {
		select {
		case msg := <-arrived:
			silence.Reset(actionSilence)
			if msg.Header.Get("Status") == "" { // else a heartbeat
				a.onAction(ctx, msg)
			}
		case next = <-a.registered:
			if next != from {
				return next, true, nil
			}
			next = registration{}
		case <-back:
			// Perhaps to a server that has lost it; and while it could not deliver, it
			// may have thought better of it.
			return next, true, errors.New("the NATS server was away, and its consumer may be gone")
		case <-silence.C:
			return next, true, fmt.Errorf("consumer %s of %s is silent: it seems to be gone", from.consumer, from.stream)
		case <-ctx.Done():
			return next, true, ctx.Err()
		}
	}
}
