package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// The phases of a run.
const (
	starting int32 = iota
	answering
	stopping
	ended
)

const (
	// stuckAfter is how long requests may wait in a lane of which nothing is taken:
	// longer than any request may take, so that a database that hangs does not make
	// a healthy worker seem dead.
	stuckAfter = maxTimeout + 30*time.Second
	// backlogEvery is how often the outbox is looked at, whoever scrapes how often.
	backlogEvery = 10 * time.Second
)

// progress is when something last went on.
type progress struct {
	began time.Time
	since atomic.Int64 // nanoseconds from began
}

func (p *progress) at(t time.Time)       { p.since.Store(int64(t.Sub(p.began))) }
func (p *progress) still() time.Duration { return time.Since(p.began) - time.Duration(p.since.Load()) }

// stuck says whether requests wait and none has been taken for too long.
func (l *lane) stuck() bool { return l.waiting() > 0 && l.moved.still() > stuckAfter }

// show has the metrics and probes read this worker.
func (w *worker) show() {
	w.cfg.Metrics.Show(metrics.Source{
		Name: w.cfg.Name, Version: w.cfg.Version, Now: w.snapshot, Alive: w.alive, Ready: w.ready,
	})
}

func (w *worker) alive() error {
	for _, l := range w.lanes.all() {
		if l.stuck() {
			return fmt.Errorf("the lane %s has not moved for %s, and requests wait in it", l.name, l.moved.still().Round(time.Second))
		}
	}
	return nil
}

// ready asks NATS, Postgres and JetStream. The causes of their silence are in the log of
// those who need them: here is a line for people and load balancers.
func (w *worker) ready(ctx context.Context) error {
	other := w.elsewhere.Load()
	switch w.phase.Load() {
	case starting:
		if other != nil {
			return fmt.Errorf("starting: waiting until worker %s leaves another database than this one's", *other)
		}
		return errors.New("starting: waiting for Postgres and NATS")
	case stopping:
		return errors.New("stopping: finishing the requests that were taken")
	case ended:
		return errors.New("stopped")
	}
	if other != nil {
		return fmt.Errorf("worker %s answers from another database: stop the one whose --postgres is wrong", *other)
	}
	if !w.nc.IsConnected() || w.nc.FlushWithContext(ctx) != nil {
		return errors.New("NATS cannot be reached")
	}
	if err := w.store.Ping(ctx); err != nil {
		if said, ok := errors.AsType[*messages.Error](err); ok {
			return fmt.Errorf("Postgres: %s, or no connection to it is free", said.Message)
		}
		return errors.New("Postgres refuses to write; see the log for the cause")
	}
	if err := bus.StreamsAnswer(ctx, w.js); err != nil {
		return fmt.Errorf("JetStream takes nothing, as without a quorum of its servers: %w", err)
	}
	return nil
}

func (w *worker) snapshot() metrics.Snapshot {
	pool := w.store.Pool()
	s := metrics.Snapshot{
		Parked: w.leaving.count(),
		Pool: metrics.Pool{
			InUse: pool.InUse, Idle: pool.Idle, Limit: pool.Limit, Waits: pool.Waits, Waited: pool.Waited,
		},
		Connected:  w.nc.IsConnected(),
		Reconnects: w.nc.Stats().Reconnects,
	}
	for _, l := range w.lanes.all() {
		s.Queues = append(s.Queues, metrics.Queue{Lane: l.name, Waiting: l.waiting(), Limit: cap(l.queue)})
	}
	s.Fleet = w.fleet.Load()
	if backlog := w.backlog.Load(); backlog != nil {
		s.Outbox = *backlog
	}
	return s
}

// watchBacklog reads what lies in the outbox now and then, for the metrics. While
// it cannot be read there is no number, rather than an old one.
func (w *worker) watchBacklog(ctx context.Context) {
	ticker := time.NewTicker(backlogEvery)
	defer ticker.Stop()
	for {
		w.readBacklog(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) readBacklog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backlogEvery/2)
	defer cancel()
	kinds, err := w.store.Backlog(ctx)
	if err != nil {
		w.backlog.Store(nil)
		w.log.Debug("cannot read the outbox's backlog", "err", err)
		return
	}
	// Kinds of which nothing is left are shown as empty.
	read := map[string]metrics.Backlog{}
	for _, kind := range []outbox.Kind{outbox.KindState, outbox.KindDrone, outbox.KindToken, outbox.KindSpawn, outbox.KindTerminate, outbox.KindNap} {
		read[string(kind)] = metrics.Backlog{Kind: string(kind)}
	}
	for _, k := range kinds {
		read[string(k.Kind)] = metrics.Backlog{Kind: string(k.Kind), Rows: k.Rows, Oldest: k.Oldest, Overdue: k.Overdue}
	}
	all := make([]metrics.Backlog, 0, len(read))
	for _, b := range read {
		all = append(all, b)
	}
	w.backlog.Store(&all)
}
