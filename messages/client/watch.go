package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

const (
	// A backend has at most one event per status; the rest of this is room for
	// copies of them.
	watchBuffer = 64
	// historyLimit ends the reading of a subject that holds what it should not.
	historyLimit = 128

	// The history is read again 20, 60, 140 … 1260 ms after the subscription: an
	// event that was on its way into the stream when the subscription began is in
	// neither the first reading nor the subscription.
	settleFirst = 20 * time.Millisecond
	settleReads = 6
	settleMax   = time.Second

	// readTimeout bounds the wait for one answer. Were it for all that is read at once, a
	// server that many read from at once would be asked for the same again and again.
	readTimeout = 5 * time.Second
	// unsurePause lies between the questions to workers of whom none has answered yet.
	unsurePause = 3 * time.Second
	// lookAgain is after how long the stream is read once more by who has heard nothing: where the link between two servers of a cluster
	// breaks, what passes meanwhile does not come live, and a client whose own connection is whole is told nothing.
	lookAgain = 20 * time.Second
)

// watch follows one backend: its whole history first, then each event as it
// comes, ordered by number, none twice and none left out (I5), also when the
// connection is lost and comes back meanwhile. It ends after terminated, or with
// an error: that of ctx when ctx ends, Unavailable when the server or its stream
// of events is not there at the start, NotFound when it comes back to workers that
// know the backend no more.
//
// A worker is asked for the current state, too, which is given where the stream has it not: because it is long ago, the
// server lost its data, or the replica that answers lags behind in a cluster.
//
// It costs the server one core subscription and a few direct gets, and no
// JetStream consumer. A watch holds at most some 20 KiB, besides what the caller does.
func watch(ctx context.Context, nc *nats.Conn, backend string) iter.Seq2[messages.StateEvent, error] {
	return func(yield func(messages.StateEvent, error) bool) {
		if err := messages.CheckBackendID(backend); err != nil {
			yield(messages.StateEvent{}, err)
			return
		}
		w := &watcher{nc: nc, backend: backend, live: make(chan *nats.Msg, watchBuffer), yield: yield}
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(messages.StateEvent{}, fmt.Errorf("watch %s: %w", backend, err))
		}
	}
}

// history gives the events of a backend that the stream of events still holds,
// ordered by number, with the current state, of a worker: the stream may have it not yet, or no more.
func history(ctx context.Context, nc *nats.Conn, backend string) ([]messages.StateEvent, error) {
	if err := messages.CheckBackendID(backend); err != nil {
		return nil, err
	}
	events, _, err := readHistory(ctx, nc, backend, 1)
	if err == nil {
		var current messages.StateEvent
		// That no worker answers, or none knows the backend, makes what there is no less.
		if current, err = currentState(ctx, nc, backend); err == nil {
			events = append(events, current)
		} else if ctx.Err() == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", backend, err)
	}
	slices.SortStableFunc(events, byNumber)
	return slices.CompactFunc(events, func(a, b messages.StateEvent) bool { return a.Number == b.Number }), nil
}

func byNumber(a, b messages.StateEvent) int { return a.Number - b.Number }

// isFirst says whether an event is that with which a backend's history begins.
func isFirst(e messages.StateEvent) bool { return e.Status == messages.Scheduled }

// currentState asks a worker, and puts what it says as the event that led to it.
func currentState(ctx context.Context, nc *nats.Conn, backend string) (messages.StateEvent, error) {
	info, err := Request[messages.BackendInfo](ctx, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if err != nil {
		return messages.StateEvent{}, err
	}
	return messages.NewStateEvent(backend, info.ChangedAt, info.State), nil
}

// errStopped says that the reader wants no more, or that there is no more.
var errStopped = errors.New("stopped")

// watcher is one run of [Client.Watch]. It has no goroutine of its own.
type watcher struct {
	nc      *nats.Conn
	backend string
	live    chan *nats.Msg
	yield   func(messages.StateEvent, error) bool

	sub     *nats.Subscription
	dropped int
	// last is the number of the last event that was given out, seq the place in
	// the stream up to which the history was read.
	last int
	seq  uint64
	// Until settled, the stream has the word: what comes live is held until the
	// stream has it too, so that what came before it is seen first.
	settled bool
	reads   int
	held    []messages.StateEvent

	// sure says that a worker has told the current state since the subscription began. Nothing else tells that no event
	// is missing: in a cluster, one may pass before the subscription is known where it is published, and direct get may be answered by
	// a replica that has it not yet; a server that crashed may have lost its last events, and one that was replaced all of them.
	sure bool
	// begun says that the stream has the backend's first state: then a worker is asked only once the stream had some time.
	begun    bool
	rejoined bool
}

func (w *watcher) run(ctx context.Context) error {
	status := w.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer w.nc.RemoveStatusListener(status)
	// Subscribed before the history is read: what comes between is seen twice,
	// not missed.
	sub, err := w.nc.ChanSubscribe(messages.BackendEventSubject(w.backend), w.live)
	if err != nil {
		return unavailable(err)
	}
	w.sub = sub
	defer func() { _ = sub.Unsubscribe() }()
	// Once the stream has told something, what fails is read again.
	if err := w.read(ctx); err != nil && (w.seq == 0 || errors.Is(err, errStopped) || ctx.Err() != nil) {
		return err
	}
	timer := time.NewTimer(settleFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s == nats.CLOSED {
				return nats.ErrConnectionClosed
			}
			w.sure, w.rejoined = false, true
			w.unsettle(timer)
		case msg := <-w.live:
			err = w.take(ctx, msg, timer)
		case <-timer.C:
			err = w.settle(ctx, timer)
		}
		if err != nil {
			return err
		}
	}
}

// take looks at a live event.
func (w *watcher) take(ctx context.Context, msg *nats.Msg, timer *time.Timer) error {
	if dropped, _ := w.sub.Dropped(); dropped != w.dropped {
		w.dropped = dropped
		w.unsettle(timer)
	}
	event, err := messages.Decode[messages.StateEvent](msg.Data)
	known := err == nil // not of a newer version than this
	if !known || event.BackendID != w.backend || event.Number <= w.last {
		return nil
	}
	if w.settled {
		return w.give(event)
	}
	w.held = append(w.held, event)
	if err := w.read(ctx); errors.Is(err, errStopped) || ctx.Err() != nil {
		return err
	}
	return nil
}

// unsettle makes the stream be read again from its start, for it may be another one, because
// live events may be missing.
func (w *watcher) unsettle(timer *time.Timer) {
	w.settled, w.reads, w.seq = false, 0, 0
	timer.Reset(spread(settleFirst)) // not all of a connection's watchers at once
}

// settle reads the stream once more. After the last time it gives out what is
// still held.
func (w *watcher) settle(ctx context.Context, timer *time.Timer) error {
	delay := spread(min(settleFirst<<min(w.reads+1, 16), settleMax))
	switch err := w.read(ctx); {
	case errors.Is(err, errStopped) || ctx.Err() != nil:
		return err
	case err != nil:
		// The server is away or has not its streams again: it comes back.
		timer.Reset(max(delay, settleMax/4))
		return nil //nolint:nilerr // looked at again when the timer fires
	}
	// Where the stream has the past, and after a reconnect, when all others ask too, only once the stream had some time.
	if !w.sure && (!w.begun && !w.rejoined || w.reads >= settleReads-2) {
		if err := w.ask(ctx); err != nil {
			return err
		}
	}
	if w.reads++; w.reads < settleReads {
		timer.Reset(delay)
		return nil
	}
	w.settled = true
	if w.sure {
		timer.Reset(spread(lookAgain))
	} else {
		timer.Reset(spread(unsurePause))
	}
	slices.SortFunc(w.held, byNumber)
	for _, event := range w.held {
		if err := w.give(event); err != nil {
			return err
		}
	}
	w.held = nil
	return nil
}

// spread keeps those that began at once from going on at once: d to one and a half of it.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/2) //nolint:gosec // nobody gains from guessing it
}

// ask asks a worker for the current state and holds it like an event that came live, so
// that the stream has the word for a while: the state may be written, but not yet
// published. That no worker answers is no error: it is asked again.
func (w *watcher) ask(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	current, err := currentState(asking, w.nc, w.backend)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case messages.KindOf(err) == messages.NotFound:
		if w.last > 0 {
			return err // it ended long ago
		}
		w.sure = true // it is yet to come
	case err == nil:
		w.sure, w.settled = true, false
		w.held = append(w.held, current)
		w.reads = min(w.reads, settleReads-2)
	}
	return nil
}

// read gives out what the stream holds and was not given out before. What it has read it
// need not read again, also when the server then answers no more.
func (w *watcher) read(ctx context.Context) error {
	// The server has taken up the subscription when it answers this.
	if err := flush(ctx, w.nc); err != nil {
		return err
	}
	events, seq, err := readHistory(ctx, w.nc, w.backend, w.seq+1)
	w.seq = max(w.seq, seq)
	w.begun = w.begun || slices.ContainsFunc(events, isFirst)
	for _, event := range events {
		if err := w.give(event); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	w.held = slices.DeleteFunc(w.held, func(e messages.StateEvent) bool { return e.Number <= w.last })
	return nil
}

// give gives an event out unless it, or a later one, was given out before.
func (w *watcher) give(event messages.StateEvent) error {
	if event.Number <= w.last {
		return nil
	}
	w.last = event.Number
	if !w.yield(event, nil) || event.Status == messages.Terminated {
		return errStopped
	}
	return nil
}

// readHistory reads a backend's events from a place in the stream on, and says
// up to where it read, also when an error ended it.
func readHistory(ctx context.Context, nc *nats.Conn, backend string, from uint64) ([]messages.StateEvent, uint64, error) {
	var events []messages.StateEvent
	for range historyLimit {
		msg, seq, err := nextInStream(ctx, nc, messages.StreamEvents, messages.BackendEventSubject(backend), from)
		if err != nil {
			return events, from - 1, err
		}
		if msg == nil {
			break
		}
		from = seq + 1
		event, err := messages.Decode[messages.StateEvent](msg.Data)
		if err == nil && event.BackendID == backend {
			events = append(events, event)
		}
	}
	return events, from - 1, nil
}

// flush waits until the server has taken up all that was asked of it.
func flush(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable is a server that does not answer, or the end of the caller's ctx.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return messages.Errorf(messages.Unavailable, "the NATS server does not answer: %v", err)
}
