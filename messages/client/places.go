package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Placed is an event with its place in the stream of events, by which a reader that comes back says how far it was.
type Placed struct {
	messages.StateEvent
	// Sleep is there where the event is that of a backend that falls asleep or wakes. Then StateEvent has its id, time and backend, and no state.
	Sleep *messages.SleepEvent
	Place uint64
}

// placed reads an event of a backend; ok is false where it is of something else, or of a newer version than this.
func placed(msg *nats.Msg, place uint64) (p Placed, ok bool) {
	if event, err := messages.Decode[messages.StateEvent](msg.Data); err == nil {
		return Placed{StateEvent: event, Place: place}, true
	}
	event, err := messages.Decode[messages.SleepEvent](msg.Data)
	if err != nil {
		return p, false
	}
	base := messages.StateEvent{Type: event.Type, ID: event.ID, Time: event.Time, BackendID: event.BackendID}
	return Placed{StateEvent: base, Sleep: &event, Place: place}, true
}

// LastNap gives the last event of a backend that fell asleep or woke; nil where the stream of events has none.
func (c *Client) LastNap(ctx context.Context, backend string) (*messages.SleepEvent, error) {
	if err := messages.CheckBackendID(backend); err != nil {
		return nil, err
	}
	msg, err := getDirect(ctx, c.nc, messages.StreamEvents, directGet{LastBySubject: messages.SleepEventSubject(backend)})
	if err != nil || msg == nil {
		return nil, err
	}
	event, err := messages.Decode[messages.SleepEvent](msg.Data)
	return &event, err
}

// WatchAllPlaced is [Client.WatchAll] with the place of each event, and with events of sleep. It calls began once nothing that is published is left out.
func (c *Client) WatchAllPlaced(ctx context.Context, began func()) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		w := newAllWatcher(c.nc, yield)
		w.naps, w.began = make(map[string]int64), began
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Placed{}, fmt.Errorf("watch all backends: %w", err))
		}
	}
}

// EventsFrom gives some of the events of all backends, those of sleep too, from a place on, and says whether there are more. What is of a
// newer version than this is left out.
func (c *Client) EventsFrom(ctx context.Context, place uint64) (events []Placed, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	msgs, more, err := getBatch(ctx, c.nc, messages.StreamEvents, messages.SubjectAllEvents, place, watchAllBatch)
	if err != nil {
		return nil, false, err
	}
	for _, msg := range msgs {
		at, err := placeOf(msg)
		if err != nil {
			return nil, false, err
		}
		if event, ok := placed(msg, at); ok {
			events = append(events, event)
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
