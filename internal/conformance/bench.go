package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
)

// bench is what the benches of drones and proxies have in common: the workers' subjects, and what is seen on them.
type bench struct {
	name string
	nc   *nats.Conn
	js   jetstream.JetStream
	run  string // part of all ids, so that nothing is taken for one of an earlier run
	wait time.Duration

	mu       sync.Mutex
	observed observed
	subs     []*nats.Subscription
	faults   map[string][]string // by check: what came and is not as the protocol has it
	extras   bool                // answers hold fields that nobody knows
}

func newBench(nc *nats.Conn, name string, wait time.Duration) (*bench, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &bench{name: name, nc: nc, js: js, run: strings.ToLower(nuid.Next()[16:]), wait: wait, observed: newObserved(), faults: map[string][]string{}}, nil
}

// alone makes sure that nobody else plays the workers' part: to what is tested it would make no difference whose word it hears.
func (b *bench) alone(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	switch reply, err := b.nc.RequestWithContext(ctx, subject, []byte("[]")); { // which any worker refuses
	case errors.Is(err, nats.ErrNoResponders):
		return nil
	case err == nil && reply != nil:
		return &OthersError{Subject: subject}
	case err != nil:
		return fmt.Errorf("ask whether a worker runs: %w", err)
	}
	return nil
}

// OthersError says that somebody else plays the workers' part.
type OthersError struct{ Subject string }

// Error says on which subject.
func (e *OthersError) Error() string {
	return "a worker, or another run of this, answers on " + e.Subject + " of this NATS server"
}

// prepare makes the streams, as a worker does when it starts.
func (b *bench) prepare(ctx context.Context) error {
	small := bus.Streams{Actions: bus.MinStream * 4, Events: bus.MinStream * 4, Logs: bus.MinStream}
	if err := bus.MakeMissingStreams(ctx, b.js, small); err != nil {
		return fmt.Errorf("make the streams (the server needs JetStream, and this user the rights of a worker): %w", err)
	}
	return nil
}

// answer has handle answer what is asked on a subject; nil, nil: nothing is answered.
func (b *bench) answer(subject string, handle func(data []byte) (any, error)) error {
	sub, err := b.nc.Subscribe(subject, func(msg *nats.Msg) {
		resp, err := handle(msg.Data)
		var refused *messages.Error
		switch {
		case msg.Reply == "" || resp == nil && err == nil:
		case errors.As(err, &refused):
			refused.ID = b.run
			reply := nats.NewMsg(msg.Reply)
			reply.Header.Set(messages.HeaderError, refused.Message)
			reply.Header.Set(messages.HeaderErrorCode, refused.CodeString())
			reply.Data = messages.Encode(refused)
			_ = b.nc.PublishMsg(reply)
		default:
			_ = b.nc.Publish(msg.Reply, b.encode(resp))
		}
	})
	if err != nil {
		return fmt.Errorf("answer on %s: %w", subject, err)
	}
	b.subs = append(b.subs, sub)
	return nil
}

// encode gives a payload; with extras, one of a newer version of the protocol.
func (b *bench) encode(v any) []byte {
	data := messages.Encode(v)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.extras {
		data = newer(data)
	}
	return data
}

// newer is a payload with fields that no version has yet, in what it holds, too.
func newer(data []byte) []byte {
	const field = `{"of_a_later_version":{"seconds":1.5,"list":[null,true,"x"]},`
	for _, begin := range []string{`{"type":`, `{"session":`, `{"renew_at_ms":`, `{"hard":`, `{"stream":`, `{"deadlines":`, `{"draining":`, `{"backend_id":`} {
		data = bytes.Replace(data, []byte(begin), []byte(field+begin[1:]), 1)
	}
	return data
}

// close stops answering.
func (b *bench) close() {
	for _, sub := range b.subs {
		_ = sub.Unsubscribe()
	}
}

// set changes what the bench does.
func (b *bench) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	b.observed.tellLocked()
}

// faultLocked notes what came and is not as the protocol has it, some of it.
func (b *bench) faultLocked(check, format string, args ...any) {
	fault := fmt.Sprintf(format, args...)
	if known := b.faults[check]; len(known) < 5 && !slices.Contains(known, fault) {
		b.faults[check] = append(known, fault)
	}
}

// until waits until seen, which is called under the lock, says true; it is false after the bench's wait.
func (b *bench) until(ctx context.Context, seen func() bool) bool { return b.within(ctx, b.wait, seen) }

func (b *bench) within(ctx context.Context, wait time.Duration, seen func() bool) bool {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		b.mu.Lock()
		done, changed := seen(), b.observed.changed
		b.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// polled is until for what nothing signals; look is not under the lock.
func (b *bench) polled(ctx context.Context, wait time.Duration, seen func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for !seen(ctx) {
		if !pause.Sleep(ctx, look) {
			return false
		}
	}
	return true
}

// faultless fails where something was noted for a check.
func (b *bench) faultless(check string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults[check]) > 0 {
		return errors.New(strings.Join(b.faults[check], "; "))
	}
	return nil
}

// publish puts an event or action into its stream.
func (b *bench) publish(ctx context.Context, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	if _, err := b.js.Publish(ctx, subject, data); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}
