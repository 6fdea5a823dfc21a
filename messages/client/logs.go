package client

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

const (
	// logBuffer is how many lines may wait for whoever reads them (I8).
	logBuffer = 2048
	// logKnown is how many lines are remembered to tell copies: those that may wait, and
	// those that the stream holds.
	logKnown = logBuffer + 512
	logBatch = 256
	// meetTries bounds how often stream and live lines are put together before others
	// have a turn.
	meetTries = 4
)

// Logs says which of a backend's output lines are wanted.
type Logs struct {
	Backend string
	// Tail, if not negative, is how many of the lines that there are at the start are
	// wanted, the last ones.
	Tail int
	// Since leaves out what is older; zero: nothing. Lines carry their drone's time.
	Since time.Time
	// Ended, if not nil, has lines be followed until it is closed and all is shown.
	Ended <-chan struct{}
}

// lines gives a backend's output: what the stream of lines still holds, and where it
// is followed each line as it comes, in order, none left out and none twice, also
// when the connection is lost and comes back meanwhile: then as far as the stream
// holds them. Where lines may be missing, a line of the stream "drone" says so. It
// ends with an error: that of ctx when ctx ends, Unavailable when the server or its stream
// of lines is not there at the start.
//
// A line has no number; what came live and is in the stream too is the same bytes in
// the same order, for a drone publishes a backend's lines one after another. As in
// [Client.Watch] the stream is read a few times after the live subscription began, since a line
// may be on its way into it, and until then has the word. It costs no consumer.
func lines(ctx context.Context, nc *nats.Conn, what Logs) iter.Seq2[messages.LogLine, error] {
	return func(yield func(messages.LogLine, error) bool) {
		if err := messages.CheckBackendID(what.Backend); err != nil {
			yield(messages.LogLine{}, err)
			return
		}
		f := &logReader{nc: nc, what: what, subject: messages.LogSubject(what.Backend), seed: maphash.MakeSeed(), yield: yield}
		err := f.start(ctx)
		if err == nil && what.Ended != nil {
			err = f.follow(ctx)
		}
		f.stop()
		if err != nil && !errors.Is(err, errStopped) {
			yield(messages.LogLine{}, fmt.Errorf("read the output of %s: %w", what.Backend, err))
		}
	}
}

// logReader is one run of [Lines]. It has no goroutine of its own.
type logReader struct {
	nc      *nats.Conn
	what    Logs
	subject string
	seed    maphash.Seed
	yield   func(messages.LogLine, error) bool

	live    chan *nats.Msg
	sub     *nats.Subscription
	dropped int
	gap     bool // lines were dropped, and what is held is on both sides of that

	// latest is the time of the line that was given out last.
	latest time.Time

	// seq is the place in the stream up to which it was read.
	seq uint64
	// settled says that what comes live is given out at once. Until then it is held,
	// until the stream has it too, so that what came before it is given out first.
	settled bool
	reads   int
	held    []logEntry
	// given are the lines that were given out lately, to tell copies.
	given []logEntry
}

// logEntry is a line by the hash of its bytes.
type logEntry struct {
	sum uint64
	// due says that it may come once more from where it did not come from: live from
	// the stream, or the other way round.
	due, live bool
	msg       *nats.Msg // of one that is held
}

// start subscribes, if it is to follow, and gives out what there is.
func (f *logReader) start(ctx context.Context) (err error) {
	if f.what.Ended != nil {
		// Subscribed before the history is read: what comes between is seen twice, not missed.
		f.live = make(chan *nats.Msg, logBuffer)
		if f.sub, err = f.nc.ChanSubscribe(f.subject, f.live); err != nil {
			return unavailable(err)
		}
	}
	msgs, err := f.next(ctx)
	if err != nil {
		return err
	}
	skip := 0
	if f.what.Tail >= 0 {
		skip = max(len(msgs)-f.what.Tail, 0)
	}
	for i, msg := range msgs {
		if i < skip {
			f.note(logEntry{sum: f.sum(msg), due: true})
		} else if err := f.fromStream(msg); err != nil {
			return err
		}
	}
	return nil
}

func (f *logReader) stop() {
	if f.sub != nil {
		_ = f.sub.Unsubscribe()
	}
}

func (f *logReader) follow(ctx context.Context) error {
	status := f.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer f.nc.RemoveStatusListener(status)
	timer := time.NewTimer(settleFirst)
	defer timer.Stop()
	ended, ending := f.what.Ended, false
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s == nats.CLOSED {
				return nats.ErrConnectionClosed
			}
			f.unsettle(timer)
		case <-ended:
			// Its last lines may be under way: they are looked for as at the start.
			ended, ending = nil, true
			f.unsettle(timer)
		case msg := <-f.live:
			err = f.take(ctx, msg)
		case <-timer.C:
			if err = f.settle(ctx, timer); err == nil && f.settled && ending {
				if len(f.live) == 0 {
					return nil
				}
				timer.Reset(settleFirst) // once what is here is taken
			}
		}
		if err != nil {
			return err
		}
	}
}

// unsettle has the stream be read once more from its start: it may be another one, or have
// what did not come live.
func (f *logReader) unsettle(timer *time.Timer) {
	f.settled, f.reads, f.seq = false, 0, 0
	timer.Reset(spread(settleFirst))
}

// take looks at a line that came live.
func (f *logReader) take(ctx context.Context, msg *nats.Msg) error {
	if dropped, _ := f.sub.Dropped(); dropped != f.dropped {
		f.dropped, f.gap = dropped, true
		notice := messages.LogLine{Time: time.Now().UTC(), Stream: messages.StreamDrone, Line: "lines came faster than they are read here: some are missing"}
		if !f.yield(notice, nil) {
			return errStopped
		}
	}
	entry := logEntry{sum: f.sum(msg), live: true, msg: msg}
	switch {
	case f.isCopy(entry):
		return nil
	case f.settled:
		return f.give(entry)
	}
	f.held = append(f.held, entry)
	if len(f.held) < logBuffer {
		return nil // the timer reads
	}
	// Too many to wait for what may have come before them.
	return f.release(ctx)
}

// isCopy says whether a line was given out when it came the other way. Those given out
// before it from there will not come this way any more.
func (f *logReader) isCopy(entry logEntry) bool {
	i := slices.IndexFunc(f.given, func(g logEntry) bool { return g.due && g.live != entry.live && g.sum == entry.sum })
	for j := range f.given[:i+1] {
		if f.given[j].live != entry.live {
			f.given[j].due = false
		}
	}
	return i >= 0
}

// settle reads the stream once more. After the last time it gives out what is still held.
func (f *logReader) settle(ctx context.Context, timer *time.Timer) error {
	msgs, err := f.meet(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errStopped):
		return err
	case err != nil: // the server is away, and comes back; or lines still come too fast
		timer.Reset(settleMax / 4)
		return nil //nolint:nilerr // read again when the timer fires
	}
	for _, msg := range msgs {
		if err := f.fromStream(msg); err != nil {
			return err
		}
	}
	if f.reads++; f.reads < settleReads {
		timer.Reset(spread(min(settleFirst<<f.reads, settleMax)))
		return nil
	}
	f.settled = true
	return f.release(ctx)
}

var errTooFast = errors.New("lines come faster than they are read")

// meet gives what the stream has gained, with all that came live until it was read held,
// none of it dropped since the last line that was given out: then each has its place
// among the other. Where lines were dropped, that begins anew with those that are left,
// for where among what is held the dropped ones belong is not known.
func (f *logReader) meet(ctx context.Context) ([]*nats.Msg, error) {
	for range meetTries {
		again := f.seq == 0
		msgs, err := f.next(ctx)
		if err != nil {
			return nil, err
		}
		// After the stream was read: what it has came live before.
		for len(f.live) > 0 {
			if err := f.take(ctx, <-f.live); err != nil {
				return nil, err
			}
		}
		if !f.gap {
			if again {
				msgs = f.unknown(msgs)
			}
			return msgs, nil
		}
		if err := f.release(ctx); err != nil {
			return nil, err
		}
		f.gap, f.seq = false, 0
	}
	return nil, errTooFast
}

// unknown gives what follows the last of the lines that was given out before: of a stream
// that was read before, what it has gained; of another one, all.
func (f *logReader) unknown(msgs []*nats.Msg) []*nats.Msg {
	known := make(map[uint64]bool, len(f.given))
	for _, g := range f.given {
		known[g.sum] = true
	}
	for i, msg := range slices.Backward(msgs) {
		if known[f.sum(msg)] {
			return msgs[i+1:]
		}
	}
	return msgs
}

// release gives out what is held.
func (f *logReader) release(ctx context.Context) error {
	held := f.held
	f.held = nil
	for _, h := range held {
		if err := f.give(h); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// next gets what the stream has beyond the place that was reached.
func (f *logReader) next(ctx context.Context) (all []*nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// The server has taken up the subscription when it answers this.
	if err := f.nc.FlushWithContext(ctx); err != nil {
		return nil, unavailable(err)
	}
	seq := f.seq
	for len(all) < logKnown {
		msgs, more, err := getBatch(ctx, f.nc, messages.StreamLogs, f.subject, seq+1, logBatch)
		if err != nil {
			return nil, err
		}
		for _, msg := range msgs {
			if seq, err = placeOf(msg); err != nil {
				return nil, err
			}
		}
		all = append(all, msgs...)
		if !more {
			break
		}
	}
	f.seq = seq // of what was got in part only, all is got again
	return all, nil
}

// fromStream gives out a line of the stream, and before it what came live before it and
// the stream does not have.
func (f *logReader) fromStream(msg *nats.Msg) error {
	entry := logEntry{sum: f.sum(msg), msg: msg}
	if f.isCopy(entry) {
		return nil
	}
	entry.due = true
	i := slices.IndexFunc(f.held, func(h logEntry) bool { return h.sum == entry.sum })
	if i < 0 && f.dropped > 0 && f.isLate(msg) {
		return nil
	}
	if i >= 0 {
		entry.due = false
		before := f.held[:i]
		f.held = f.held[i+1:]
		for _, h := range before {
			if err := f.give(h); err != nil {
				return err
			}
		}
	}
	return f.give(entry)
}

// isLate says that a line is older than what was given out last. The stream may be far
// behind what comes live: then it has lines that were dropped, and have no place any more.
func (f *logReader) isLate(msg *nats.Msg) bool {
	line, err := messages.Decode[messages.LogLine](msg.Data)
	return err == nil && line.Time.Before(f.latest)
}

// give gives a line out, unless it is too old or of a newer version than this.
func (f *logReader) give(entry logEntry) error {
	// The stream is read on until settled.
	entry.due = entry.due || entry.live && !f.settled
	data := entry.msg.Data
	entry.msg = nil
	f.note(entry)
	line, err := messages.Decode[messages.LogLine](data)
	if err != nil || line.Time.Before(f.what.Since) {
		return nil //nolint:nilerr // not for this reader
	}
	f.latest = line.Time
	if !f.yield(line, nil) {
		return errStopped
	}
	return nil
}

// note remembers a line.
func (f *logReader) note(entry logEntry) {
	if f.live == nil {
		return // nothing comes twice
	}
	if len(f.given) == 2*logKnown {
		f.given = append(f.given[:0], f.given[logKnown:]...)
	}
	f.given = append(f.given, entry)
}

func (f *logReader) sum(msg *nats.Msg) uint64 { return maphash.Bytes(f.seed, msg.Data) }
