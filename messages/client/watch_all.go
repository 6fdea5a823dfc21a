package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/messages"
)

const (
	// watchAllBatch is how many events are got at once.
	watchAllBatch = 256
	// watchAllKnown bounds the backends whose last number is remembered.
	watchAllKnown = 1 << 16
)

// watchAll gives the events of all backends from now on, in the order of the stream,
// none left out and none twice, also when the connection is lost and comes back
// meanwhile: what the stream of events then holds it gives. It ends with an
// error: that of ctx, or Unavailable when the server or its stream of events is
// not there at the start.
//
// A live event only says that there is something to get; what is given out comes by
// direct get from the place that was reached. So a reader that is slow makes nobody
// wait and nothing pile up, and there is no JetStream consumer.
func watchAll(ctx context.Context, nc *nats.Conn) iter.Seq2[messages.StateEvent, error] {
	return func(yield func(messages.StateEvent, error) bool) {
		w := newAllWatcher(nc, func(event Placed, err error) bool { return yield(event.StateEvent, err) })
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(messages.StateEvent{}, fmt.Errorf("watch all backends: %w", err))
		}
	}
}

// allWatcher is one run of [Client.WatchAll].
type allWatcher struct {
	nc    *nats.Conn
	yield func(Placed, error) bool
	// seq is the place that was reached, at when the message there came: as long as
	// both are true of the stream, it is the same one.
	seq uint64
	at  string
	// last has the numbers that were given out, against copies (I5). When it is full it
	// is forgotten: copies come when a worker crashed, and soon.
	last map[string]int
	// naps does the same for events of sleep; nil: they are not watched.
	naps map[string]int64
	// began, if not nil, is called once when what comes from then on is given.
	began func()
}

func newAllWatcher(nc *nats.Conn, yield func(Placed, error) bool) *allWatcher {
	return &allWatcher{nc: nc, yield: yield, last: make(map[string]int)}
}

// subjects are those that are heard live, and read is the one that what there is is read from.
func (w *allWatcher) subjects() (live []string, read string) {
	if w.naps == nil {
		return []string{messages.SubjectAnyBackendEvent}, messages.SubjectAnyBackendEvent
	}
	return []string{messages.SubjectAnyBackendEvent, messages.SubjectAnySleepEvent}, messages.SubjectAllEvents
}

func (w *allWatcher) run(ctx context.Context) error {
	status := w.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer w.nc.RemoveStatusListener(status)
	wake := make(chan struct{}, 1)
	live, _ := w.subjects()
	for _, subject := range live {
		sub, err := w.nc.Subscribe(subject, func(*nats.Msg) {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return unavailable(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	if err := w.begin(ctx); err != nil {
		return err
	}
	if w.began != nil {
		w.began()
	}
	// What is live may be on its way into the stream: it is looked for a few times.
	timer := time.NewTimer(0)
	defer timer.Stop()
	reads, same := 0, true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s == nats.CLOSED {
				return nats.ErrConnectionClosed
			}
			reads, same = 0, false
			timer.Reset(0)
		case <-wake:
			reads = 0
			timer.Reset(0)
		case <-timer.C:
			got, err := w.read(ctx, &same)
			switch {
			case errors.Is(err, errStopped) || ctx.Err() != nil:
				return err
			case err != nil:
				timer.Reset(settleMax / 4) // the server is away, and comes back
				continue
			case got == 0 && reads == settleReads-1:
				same = false // awoken for nothing: by events of a stream made anew?
			}
			if reads++; reads <= settleReads {
				timer.Reset(min(settleFirst<<reads, settleMax))
			} else {
				timer.Reset(lookAgain)
			}
		}
	}
}

// begin finds the end of the stream.
func (w *allWatcher) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := w.nc.FlushWithContext(ctx); err != nil {
		return unavailable(err)
	}
	msg, err := w.get(ctx, directGet{LastBySubject: messages.SubjectAllEvents})
	if err != nil || msg == nil {
		return err
	}
	return w.reach(msg)
}

// reach notes the place of a message.
func (w *allWatcher) reach(msg *nats.Msg) (err error) {
	if w.seq, err = placeOf(msg); err == nil {
		w.at = msg.Header.Get(jetstream.TimeStampHeaer)
	}
	return err
}

// read gives out what the stream has gained, and says how much that was. Unless same,
// the stream may be another than before.
func (w *allWatcher) read(ctx context.Context, same *bool) (got int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if !*same {
		if err := w.recognize(ctx); err != nil {
			return 0, err
		}
		*same = true
	}
	_, subject := w.subjects()
	for {
		msgs, more, err := getBatch(ctx, w.nc, messages.StreamEvents, subject, w.seq+1, watchAllBatch)
		if err != nil {
			return got, err
		}
		for _, msg := range msgs {
			if err := w.reach(msg); err != nil {
				return got, err
			}
			if err := w.give(msg); err != nil {
				return got, err
			}
		}
		if got += len(msgs); !more {
			return got, nil
		}
	}
}

// recognize sees whether the stream is still the one whose place was noted, and
// starts with a new one at its beginning.
func (w *allWatcher) recognize(ctx context.Context) error {
	if w.seq == 0 {
		return nil
	}
	msg, err := w.get(ctx, directGet{Seq: w.seq})
	if err != nil {
		return err
	}
	known := msg != nil && msg.Header.Get(jetstream.TimeStampHeaer) == w.at
	if msg == nil {
		// Deleted by age or number, unless the stream is shorter than it was.
		if msg, err = w.get(ctx, directGet{LastBySubject: messages.SubjectAllEvents}); err != nil {
			return err
		}
		if msg != nil {
			var end uint64
			if end, err = placeOf(msg); err != nil {
				return err
			}
			known = end > w.seq
		}
	}
	if !known {
		w.seq, w.at = 0, ""
	}
	return nil
}

// give gives an event out unless it, or a later one, was given out before.
func (w *allWatcher) give(msg *nats.Msg) error {
	event, ok := placed(msg, w.seq)
	switch id := event.BackendID; {
	case !ok:
		return nil
	case event.Sleep != nil:
		if event.Sleep.Nap <= w.naps[id] {
			return nil
		}
		if len(w.naps) == watchAllKnown {
			clear(w.naps)
		}
		w.naps[id] = event.Sleep.Nap
	default:
		if event.Number <= w.last[id] {
			return nil
		}
		if len(w.last) == watchAllKnown {
			clear(w.last)
		}
		w.last[id] = event.Number
	}
	if !w.yield(event, nil) {
		return errStopped
	}
	return nil
}

// get gets one message; nil when there is none.
func (w *allWatcher) get(ctx context.Context, ask directGet) (*nats.Msg, error) {
	return getDirect(ctx, w.nc, messages.StreamEvents, ask)
}
