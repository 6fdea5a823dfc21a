package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publisher puts messages into streams, many at a time: the acknowledgements of a
// batch are counted, not waited for one by one. Safe for use by several goroutines.
type Publisher struct {
	nc     *nats.Conn
	prefix string // of the subjects that acknowledgements come to

	mu      sync.Mutex
	last    uint64
	pending map[uint64]*batch
}

// batch is what waits for its acknowledgements.
type batch struct {
	errs []error
	open []bool
	left int
	done chan struct{}
}

// errNotAcknowledged is of what has no acknowledgement yet.
var errNotAcknowledged = errors.New("no acknowledgement came")

// errCut is of what had none when the connection was lost: none will come.
var errCut = fmt.Errorf("the connection was lost: %w", nats.ErrDisconnected)

// NewPublisher makes a publisher. It lives as long as the connection.
func NewPublisher(nc *nats.Conn) (*Publisher, error) {
	p := &Publisher{nc: nc, prefix: nc.NewInbox() + ".", pending: make(map[uint64]*batch)}
	sub, err := nc.Subscribe(p.prefix+"*.*", p.acknowledged)
	if err != nil {
		return nil, fmt.Errorf("listen for acknowledgements: %w", err)
	}
	// Few come at a time, for who publishes waits for them; none may be dropped.
	return p, sub.SetPendingLimits(-1, -1)
}

// Publish sends all messages in order without waiting, and gives a function that
// waits for the acknowledgements: one error each, nil where it is in the stream.
// It has to be called once. What is not acknowledged when its context ends or the
// connection is lost may have got, or get, into the stream all the same.
func (p *Publisher) Publish(msgs []*nats.Msg) (acks func(context.Context) []error) {
	b := &batch{errs: make([]error, len(msgs)), open: make([]bool, len(msgs)), left: len(msgs), done: make(chan struct{})}
	if len(msgs) == 0 {
		close(b.done)
	}
	for i := range b.errs {
		b.errs[i], b.open[i] = errNotAcknowledged, true
	}
	lost := p.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	p.mu.Lock()
	p.last++
	id := p.last
	p.pending[id] = b
	p.mu.Unlock()
	inbox := p.prefix + strconv.FormatUint(id, 36) + "."
	for i, msg := range msgs {
		msg.Reply = inbox + strconv.Itoa(i)
		if err := p.nc.PublishMsg(msg); err != nil {
			p.settle(id, i, err)
		}
	}
	return func(ctx context.Context) []error {
		defer p.nc.RemoveStatusListener(lost)
		var late error
		select {
		case <-b.done:
		case <-lost:
			late = errCut
		case <-ctx.Done():
			late = ctx.Err()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pending, id)
		if late != nil {
			for i := range b.open {
				if b.open[i] {
					b.errs[i] = fmt.Errorf("%w: %w", errNotAcknowledged, late)
				}
			}
		}
		return b.errs
	}
}

// Send publishes without asking for an acknowledgement: for what is on record
// elsewhere until it is known to have arrived.
func (p *Publisher) Send(msgs []*nats.Msg) error {
	var errs []error
	for _, msg := range msgs {
		errs = append(errs, p.nc.PublishMsg(msg))
	}
	return errors.Join(errs...)
}

func (p *Publisher) acknowledged(msg *nats.Msg) {
	id, n, ok := strings.Cut(strings.TrimPrefix(msg.Subject, p.prefix), ".")
	number, err := strconv.ParseUint(id, 36, 64)
	i, err2 := strconv.Atoi(n)
	if !ok || err != nil || err2 != nil {
		return
	}
	p.settle(number, i, ackError(msg))
}

func (p *Publisher) settle(id uint64, i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.pending[id]
	if b == nil || i < 0 || i >= len(b.open) || !b.open[i] {
		return
	}
	b.open[i], b.errs[i] = false, err
	if b.left--; b.left == 0 {
		close(b.done)
	}
}

// ackError is what an acknowledgement says was wrong, nil when the message is in
// the stream (which it also is when it was there before).
func ackError(msg *nats.Msg) error {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return fmt.Errorf("no stream takes the subject: %w", nats.ErrNoResponders)
	}
	if !bytes.Contains(msg.Data, []byte(`"error"`)) && bytes.Contains(msg.Data, []byte(`"stream"`)) {
		return nil
	}
	var ack struct {
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(msg.Data, &ack); {
	case err != nil:
		return fmt.Errorf("the acknowledgement cannot be read: %w", err)
	case ack.Error != nil:
		return ack.Error
	case ack.Stream == "":
		return errors.New("the acknowledgement names no stream")
	}
	return nil
}
