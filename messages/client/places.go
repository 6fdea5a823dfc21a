package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/jetway-project/jetway/messages"
)

// Placed is an event with its place in the stream of events, by which a reader that comes back says how far it was.
type Placed struct {
	messages.StateEvent
	Place uint64
}

// WatchAllPlaced is [Client.WatchAll] with the place of each event. It calls began once nothing that is published is left out.
func (c *Client) WatchAllPlaced(ctx context.Context, began func()) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		w := &allWatcher{nc: c.nc, last: make(map[string]int), began: began}
		w.yield = func(event messages.StateEvent, err error) bool { return yield(Placed{event, w.seq}, err) }
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Placed{}, fmt.Errorf("watch all backends: %w", err))
		}
	}
}

// EventsFrom gives some of the events of all backends from a place on, and says whether there are more. What is of a
// newer version than this is left out.
func (c *Client) EventsFrom(ctx context.Context, place uint64) (events []Placed, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	msgs, more, err := getBatch(ctx, c.nc, messages.StreamEvents, messages.SubjectAnyBackendEvent, place, watchAllBatch)
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

// Recorded gives the events of a backend that the stream holds. No worker is asked, so none of them is ahead of another that is
// on its way into the stream.
func (c *Client) Recorded(ctx context.Context, backend string) ([]messages.StateEvent, error) {
	if err := messages.CheckBackendID(backend); err != nil {
		return nil, err
	}
	events, _, err := readHistory(ctx, c.nc, backend, 1)
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", backend, err)
	}
	slices.SortStableFunc(events, byNumber)
	return slices.CompactFunc(events, func(a, b messages.StateEvent) bool { return a.Number == b.Number }), nil
}
