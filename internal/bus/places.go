package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Placed is an event with its place in the stream of events, by which a reader that comes back says how far it was.
type Placed struct {
	messages.StateEvent
	Place uint64
}

// WatchAllPlaced is [WatchAll] with the place of each event. It calls began once nothing that is published will be left out.
func WatchAllPlaced(ctx context.Context, nc *nats.Conn, began func()) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		w := &allWatcher{nc: nc, last: make(map[string]int), began: began}
		w.yield = func(event messages.StateEvent, err error) bool { return yield(Placed{event, w.seq}, err) }
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Placed{}, fmt.Errorf("watch all backends: %w", err))
		}
	}
}

// EventsFrom gives some of the events of all backends from a place on, and says whether there are more. What is of a
// newer version than this is left out.
func EventsFrom(ctx context.Context, nc *nats.Conn, place uint64) (events []Placed, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	msgs, more, err := getBatch(ctx, nc, messages.StreamEvents, messages.SubjectAnyBackendEvent, place, watchAllBatch)
	if err != nil {
		return nil, false, err
	}
	for _, msg := range msgs {
		at, err := placeOf(msg)
		if err != nil {
			return nil, false, err
		}
		if event, err := messages.Decode[messages.StateEvent](msg.Data); err == nil {
			events = append(events, Placed{event, at})
		}
	}
	return events, more, nil
}
