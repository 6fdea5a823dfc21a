package drone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullMessages bounds the actions that are under way to the agent (I8): at
	// their largest some 40 MiB.
	pullMessages = 128
	// pullHeartbeat is how often a server with no actions says that it is there.
	pullHeartbeat = 5 * time.Second
)

// consume takes actions from the consumer that the newest registration named,
// until ctx ends. A consumer or stream that vanished (a server lost its data) is made
// again by a worker when the drone registers again.
func (a *agent) consume(ctx context.Context) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	for {
		var from registration
		select {
		case from = <-a.registered:
		case <-ctx.Done():
			return
		}
		opened, err := a.consumeFrom(ctx, from)
		if ctx.Err() != nil {
			return
		}
		if opened {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		a.log.WarnContext(ctx, "actions do not arrive, registering again", "in", wait.Round(time.Millisecond), "err", err)
		if !sleep(ctx, wait) {
			return
		}
		a.needRegistration()
	}
}

// consumeFrom takes actions until ctx ends or the consumer is lost, and then gives
// the reason. opened says that it was there.
func (a *agent) consumeFrom(ctx context.Context, from registration) (opened bool, err error) {
	look, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	consumer, err := a.js.Consumer(look, from.stream, from.consumer)
	if err != nil {
		return false, fmt.Errorf("open consumer %s of %s: %w", from.consumer, from.stream, err)
	}
	lost := make(chan error, 1)
	consuming, err := consumer.Consume(func(msg jetstream.Msg) { a.onAction(ctx, msg) },
		jetstream.PullMaxMessages(pullMessages),
		jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if !consumerLost(err) {
				a.log.DebugContext(ctx, "consuming actions", "err", err)
				return
			}
			select {
			case lost <- err:
			default:
			}
		}))
	if err != nil {
		return false, fmt.Errorf("consume from %s of %s: %w", from.consumer, from.stream, err)
	}
	a.setConsuming(true)
	for again := true; again; {
		select {
		case newest := <-a.registered:
			if again = newest == from; !again {
				err = errors.New("the workers named another consumer")
			}
		case err = <-lost:
			again = false
		case <-consuming.Closed():
			again, err = false, errors.New("the consumer was closed")
		case <-ctx.Done():
			again, err = false, ctx.Err()
		}
	}
	// Before the drone registers again nothing of this is under way any more.
	a.setConsuming(false)
	consuming.Stop()
	<-consuming.Closed()
	return true, err
}

// consumerLost tells what ends a consumer from what passes.
func consumerLost(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrConsumerDoesNotExist) || errors.Is(err, jetstream.ErrStreamNotFound) ||
		errors.Is(err, jetstream.ErrNoHeartbeat) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrBadRequest) || errors.Is(err, jetstream.ErrConnectionClosed)
}
