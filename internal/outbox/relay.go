package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/tracing"
)

// Store is what the relay needs of the database.
type Store interface {
	// ClaimOutbox gives rows that are overdue, in order, all of a backend's
	// together, and puts them off so that no other worker takes them too.
	// With all it makes what is not overdue so, first.
	ClaimOutbox(ctx context.Context, all bool, limit int) ([]Row, error)
	// DeleteOutbox takes published states off.
	DeleteOutbox(ctx context.Context, rows []Row) error
}

// Publisher puts messages on the bus.
type Publisher interface {
	// Publish sends all, in order, and gives a function that waits for their
	// acknowledgements: one error each, nil where acknowledged.
	Publish(msgs []*nats.Msg) (acks func(ctx context.Context) []error)
	// Send sends all, in order, and asks for no acknowledgement.
	Send(msgs []*nats.Msg) error
}

// Counter counts what a relay does.
type Counter interface {
	// Published counts events that the bus has acknowledged, or actions that were
	// sent, and those of which that failed.
	Published(action bool, ok, failed int)
	// Healed counts rows that were overdue.
	Healed(rows int)
}

// Config of a relay. Store, Publisher, Deadlines, Open and Log are required.
type Config struct {
	Store     Store
	Publisher Publisher
	Deadlines Deadlines
	// Open opens static tokens; an action whose token it cannot open waits for another worker's.
	Open Open
	// HealEvery is how often it looks for what a crash left behind. Default 2 s.
	HealEvery time.Duration
	// Counter, if not nil, is told what is published.
	Counter Counter
	// Tracer makes spans of actions, below what their rows carry; nil: none.
	Tracer *tracing.Tracer
	Log    *slog.Logger
}

// Relay publishes committed rows. [Relay.Run] does the work; rows given to it
// when it has ended stay in the database for another worker.
type Relay struct {
	cfg  Config
	in   chan submission
	heal chan bool
	done chan struct{}
}

type submission struct {
	rows      []Row
	published chan<- error // gets nil once all states are acknowledged
}

const (
	runners    = 2
	maxFlush   = 512 // rows published in one go
	claimLimit = 1000
	ackTimeout = 5 * time.Second
)

// errStopped is what a submission gets when the relay ends first.
var errStopped = errors.New("the outbox relay has stopped")

// NewRelay makes a relay; Run starts it.
func NewRelay(cfg Config) *Relay {
	if cfg.HealEvery == 0 {
		cfg.HealEvery = 2 * time.Second
	}
	return &Relay{cfg: cfg, in: make(chan submission, 64), heal: make(chan bool, 1), done: make(chan struct{})}
}

// Enqueue hands over rows just committed. It waits while the relay is behind:
// the work that makes rows slows down to what the bus takes (I8).
func (r *Relay) Enqueue(rows []Row) {
	if len(rows) == 0 {
		return
	}
	select {
	case r.in <- submission{rows: rows}:
	case <-r.done:
	}
}

// Publish hands over rows and waits until their states are on the bus.
func (r *Relay) Publish(ctx context.Context, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	published := make(chan error, 1)
	select {
	case r.in <- submission{rows, published}:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return errStopped
	}
	select {
	case err := <-published:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return errStopped
	}
}

// Heal looks for unpublished rows now. With all also for those that are not
// overdue: for when the bus is back.
func (r *Relay) Heal(all bool) {
	for {
		select {
		case r.heal <- all:
			return
		default:
		}
		if !all {
			return
		}
		select { // what waits there may ask for less
		case <-r.heal:
		default:
		}
	}
}

// Run publishes until ctx ends, then flushes what it was given.
func (r *Relay) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range runners {
		wg.Go(func() { r.publishLoop(ctx) })
	}
	wg.Go(func() { r.healLoop(ctx) })
	wg.Wait()
	close(r.done)
}

func (r *Relay) publishLoop(ctx context.Context) {
	for {
		select {
		case first := <-r.in:
			r.flush(r.gather(first))
		case <-ctx.Done():
			for {
				select {
				case first := <-r.in:
					r.flush(r.gather(first))
				default:
					return
				}
			}
		}
	}
}

// gather adds to first what else is waiting.
func (r *Relay) gather(first submission) []submission {
	batch, n := []submission{first}, len(first.rows)
	for n < maxFlush {
		select {
		case next := <-r.in:
			batch, n = append(batch, next), n+len(next.rows)
		default:
			return batch
		}
	}
	return batch
}

// flush publishes the states, takes them off the outbox, answers who waits, and
// then publishes the actions. So what an action or an answer causes always
// follows the state before, and finds it published and gone from the outbox:
// nothing is published twice unless something failed.
func (r *Relay) flush(batch []submission) {
	states, actions := r.split(batch)
	failed := make(map[*Row]error)
	held := make(map[string]bool)
	if gone := done(r.publish(states, held, failed)); len(gone) > 0 {
		// Not the role's context: what is committed is finished also while stopping.
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		if err := r.cfg.Store.DeleteOutbox(ctx, gone); err != nil {
			r.cfg.Log.Warn("cannot take published states off the outbox; they will be published again", "rows", len(gone), "err", err)
		}
		cancel()
	}
	for _, s := range batch {
		if s.published != nil {
			s.published <- firstFailure(s.rows, failed)
		}
	}

	// An action whose backend's state is not out waits for the next round with it.
	ready := actions[:0]
	for _, a := range actions {
		if !held[a.row.BackendID] {
			ready = append(ready, a)
		}
	}
	r.send(ready)
}

// send publishes actions. Nobody asks whether one got into the stream: it stays on
// record until its drone has shown to have taken it, and is published again until
// then (I3).
func (r *Relay) send(actions []outgoing) {
	if len(actions) == 0 {
		return
	}
	if r.cfg.Tracer.On() {
		r.trace(actions)
	}
	sent, failed := len(actions), 0
	err := r.cfg.Publisher.Send(messagesOf(actions))
	if err != nil {
		// The connection's error, so most likely that of all.
		sent, failed = 0, len(actions)
		r.cfg.Log.Warn("cannot publish actions; trying again", "actions", len(actions), "err", err)
	}
	for i := range actions {
		actions[i].span.End(err)
	}
	if r.cfg.Counter != nil {
		r.cfg.Counter.Published(true, sent, failed)
	}
}

type outgoing struct {
	row  *Row
	msg  *nats.Msg
	span tracing.Span
}

// trace begins a span for each action that belongs to a trace, which its drone
// continues.
func (r *Relay) trace(actions []outgoing) {
	now := time.Now()
	for i := range actions {
		a := &actions[i]
		if a.row.Traceparent == "" {
			continue
		}
		a.span = r.cfg.Tracer.Start(a.row.Traceparent, "publish "+string(a.row.Kind), tracing.Producer, now)
		a.span.Set("messaging.destination.name", a.msg.Subject)
		a.span.Set("jetway.backend_id", a.row.BackendID)
		setTrace(a.msg.Header, a.span.Traceparent())
	}
}

func (r *Relay) split(batch []submission) (states, actions []outgoing) {
	for _, s := range batch {
		for i := range s.rows {
			row := &s.rows[i]
			state, err := row.State()
			if err == nil && state != nil {
				states = append(states, outgoing{row: row, msg: state})
			}
			var action *nats.Msg
			if err == nil {
				action, err = row.Action(r.cfg.Deadlines, r.cfg.Open)
			}
			if err != nil {
				r.cfg.Log.Error("an outbox row cannot be put as a message", "err", err)
			} else if action != nil {
				actions = append(actions, outgoing{row: row, msg: action})
			}
		}
	}
	return states, actions
}

func messagesOf(out []outgoing) []*nats.Msg {
	msgs := make([]*nats.Msg, len(out))
	for i := range out {
		msgs[i] = out[i].msg
	}
	return msgs
}

// rest is how long it is until the next look, after one that took so long. While somebody holds a snapshot, such
// as pg_dump, Postgres keeps all that was deleted since, and a look goes through it: it takes a
// twentieth of the time at most, or comes once a minute (I8).
func rest(every, took time.Duration) time.Duration {
	return max(every, min(19*took, time.Minute))
}

func (r *Relay) healLoop(ctx context.Context) {
	next := time.NewTimer(r.cfg.HealEvery)
	defer next.Stop()
	for {
		all := false
		select {
		case <-next.C:
		case all = <-r.heal:
		case <-ctx.Done():
			return
		}
		for {
			began := time.Now()
			rows, err := r.cfg.Store.ClaimOutbox(ctx, all, claimLimit)
			next.Reset(rest(r.cfg.HealEvery, time.Since(began)))
			if err != nil {
				if ctx.Err() == nil {
					r.cfg.Log.Warn("cannot look for unpublished rows", "err", err)
				}
				break
			}
			if len(rows) > 0 {
				if r.cfg.Counter != nil {
					r.cfg.Counter.Healed(len(rows))
				}
				r.cfg.Log.Info("publishing rows that were left behind", "rows", len(rows), "first", rows[0].Kind, "backend_id", rows[0].BackendID)
				if err := r.Publish(ctx, rows); err != nil {
					break // said where it failed; they fall due again
				}
			}
			if len(rows) < claimLimit {
				break
			}
			all = false // the rest is overdue by now
		}
	}
}
