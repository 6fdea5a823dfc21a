package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publisher puts messages into streams. Safe for use by several goroutines.
type Publisher struct{ js jetstream.JetStream }

// NewPublisher makes a publisher with a bound on what is unacknowledged.
func NewPublisher(nc *nats.Conn) (*Publisher, error) {
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(8192),
		jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Publisher{js}, nil
}

// Publish sends all messages in order without waiting, and gives a function that
// waits for the acknowledgements: one error each, nil where it is in the stream.
func (p *Publisher) Publish(msgs []*nats.Msg) (acks func(context.Context) []error) {
	futures := make([]jetstream.PubAckFuture, len(msgs))
	errs := make([]error, len(msgs))
	for i, msg := range msgs {
		// No retries here: who asks knows better when to try again.
		futures[i], errs[i] = p.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
	}
	return func(ctx context.Context) []error {
		for i, f := range futures {
			if errs[i] != nil {
				continue
			}
			select {
			case <-f.Ok():
			case errs[i] = <-f.Err():
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
		}
		return errs
	}
}
