package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// HeartbeatConfig says what to measure. Dial, DSN and Log are required.
type HeartbeatConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// DSN is that of the stack's database.
	DSN string
	// Drones is how many there are, Backends how many each of them holds. Default 1, and
	// as many as a drone holds at most.
	Drones, Backends int
	// For is how long a snapshot is held before heartbeats are measured under it. Default 1 minute.
	For time.Duration
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

// window is for how long heartbeats are measured at most, if all drones send one.
const window = time.Minute

// settled is longer than a lease lives by default.
const settled = 75 * time.Second

// Validate fills in defaults and refuses what cannot be measured.
func (c *HeartbeatConfig) Validate() error {
	if c.Drones == 0 {
		c.Drones = 1
	}
	if c.Backends == 0 {
		c.Backends = messages.MaxNamed
	}
	if c.For == 0 {
		c.For = window
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.Drones < 1 || c.Drones > 1000:
		return errors.New("drones must be 1 to 1000")
	case c.Backends < 1 || c.Backends > messages.MaxNamed:
		return fmt.Errorf("backends must be 1 to %d, as many as a drone holds", messages.MaxNamed)
	case c.For < 100*time.Millisecond || c.For > time.Hour:
		return errors.New("for must be 100ms to 1h")
	}
	return nil
}

// HeartbeatFigures are what heartbeats cost.
type HeartbeatFigures struct {
	Name string `json:"name"`
	// Count is how many there were, Seconds the time in which they were.
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	// Bytes are those of a request and its reply on the bus.
	Bytes float64 `json:"bytes"`
	// Postgres and Worker are the processor time that one takes, in milliseconds: what their
	// processes used, less what they used in that time without drones. 0 where it cannot be told.
	Postgres float64 `json:"postgres_ms,omitempty"`
	Worker   float64 `json:"worker_ms,omitempty"`
}

// HeartbeatResult is what was measured.
type HeartbeatResult struct {
	Drones   int              `json:"drones"`
	Backends int              `json:"backends"`
	Free     HeartbeatFigures `json:"free"`
	Held     HeartbeatFigures `json:"snapshot_held"`
}

// Heartbeat measures what the heartbeats of drones with many backends cost a running stack,
// which has nothing else to do.
func Heartbeat(ctx context.Context, cfg HeartbeatConfig) (*HeartbeatResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return heartbeat(ctx, &cfg, heartbeatSide{
		nc: nc, dsn: cfg.DSN,
		drones: func(name, cluster string, n int) (func(), error) {
			return startDrones(ctx, cfg.Dial, cfg.Log, name, cluster, n)
		},
	})
}

// heartbeatSide is a stack whose heartbeats are measured.
type heartbeatSide struct {
	nc     *nats.Conn
	dsn    string
	drones func(name, cluster string, n int) (stop func(), err error)
	worker func() time.Duration // nil: not measured
}

func heartbeat(ctx context.Context, cfg *HeartbeatConfig, s heartbeatSide) (*HeartbeatResult, error) {
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	postgres, err := postgresUsage(ctx, conn)
	if err != nil {
		return nil, err
	}
	beats, err := listen(s.nc)
	if err != nil {
		return nil, err
	}
	defer beats.stop()
	// measure gives what was used in a window with so many drones.
	measure := func(drones int) (f HeartbeatFigures, pg, worker time.Duration, err error) {
		used := func() (pg, worker time.Duration) {
			if s.worker != nil {
				worker = s.worker()
			}
			return postgres(), worker
		}
		pg0, worker0 := used()
		began := time.Now()
		count, size := beats.seen()
		for end := began.Add(min(cfg.For, window)); ; {
			rest(ctx, min(max(time.Until(end), 10*time.Millisecond), time.Second))
			used() // what ends before it is asked is not counted
			f.Count, f.Bytes = beats.seen()
			f.Count, f.Bytes = f.Count-count, f.Bytes-size
			if ctx.Err() != nil {
				return f, 0, 0, ctx.Err()
			}
			if f.Count >= drones && time.Now().After(end) {
				break
			}
			if time.Since(end) > startTimeout+window {
				return f, 0, 0, fmt.Errorf("of %d drones only %d heartbeats were seen: subscribing to all subjects must be allowed", drones, f.Count)
			}
		}
		f.Seconds = time.Since(began).Seconds()
		pg, worker = used()
		return f, pg - pg0, worker - worker0, nil
	}

	cfg.Progress("the stack without drones of its own")
	rest(ctx, min(cfg.For, 5*time.Second)) // what its start left to do
	idle, idlePg, idleWorker, err := measure(0)
	if err != nil {
		return nil, err
	}
	cfg.Progress(fmt.Sprintf("bringing %d drones with %d backends each", cfg.Drones, cfg.Backends))
	for d := range cfg.Drones { // each in a cluster of its own, so that they share evenly
		name := fmt.Sprintf("%s-%d", run, d)
		stop, err := s.drones("dr-beat-"+name, cluster(name), 1)
		if err != nil {
			return nil, err
		}
		defer stop()
		if err := fill(ctx, s.nc, name, cfg.Backends); err != nil {
			return nil, err
		}
	}
	r := &HeartbeatResult{Drones: cfg.Drones, Backends: cfg.Backends}
	one := func(name string) (HeartbeatFigures, error) {
		f, pg, worker, err := measure(cfg.Drones)
		if err != nil {
			return f, err
		}
		n, part := float64(f.Count), f.Seconds/idle.Seconds
		per := func(used, idle time.Duration) float64 {
			return max(0, (used.Seconds()-idle.Seconds()*part)*1000/n)
		}
		f.Name, f.Bytes, f.Postgres, f.Worker = name, f.Bytes/n, per(pg, idlePg), per(worker, idleWorker)
		return f, nil
	}
	rest(ctx, min(cfg.For, settled)) // what spawns left to do, and what is looked at once
	cfg.Progress("heartbeats")
	if r.Free, err = one("heartbeat"); err != nil {
		return nil, err
	}
	cfg.Progress("heartbeats while a snapshot is held")
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("hold a snapshot: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, "select count(*) from drone"); err != nil {
		return nil, fmt.Errorf("hold a snapshot: %w", err)
	}
	rest(ctx, cfg.For)
	r.Held, err = one("heartbeat, snapshot held")
	return r, err
}

// fill spawns backends and waits until all are ready.
func fill(ctx context.Context, nc *nats.Conn, name string, n int) error {
	c := newClient(nc, name, cluster(name))
	const inFlight = 32
	ready, stop, err := c.readies()
	if err != nil {
		return err
	}
	defer stop()
	errs := make([]error, inFlight)
	var wg sync.WaitGroup
	for g := range inFlight {
		wg.Go(func() {
			for i := g; i < n && errs[g] == nil && ctx.Err() == nil; i += inFlight {
				errs[g] = c.connect(ctx, "held", i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spawn what is to be held: %w", err)
	}
	return awaitReady(ctx, ready, n, time.Now().Add(readyTimeout))
}

// heartbeats counts those on the bus.
type heartbeats struct {
	stop    func()
	mu      sync.Mutex
	replies map[string]bool // awaited
	count   int             // that were answered
	bytes   float64
}

func listen(nc *nats.Conn) (*heartbeats, error) {
	h := &heartbeats{replies: make(map[string]bool)}
	sub, err := nc.Subscribe(">", func(m *nats.Msg) {
		asked := strings.HasPrefix(m.Subject, "jetway.drone.") && strings.HasSuffix(m.Subject, ".heartbeat")
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case asked:
			h.replies[m.Reply] = true
			h.bytes += float64(m.Size())
		case h.replies[m.Subject]:
			delete(h.replies, m.Subject)
			h.count++
			h.bytes += float64(m.Size())
		}
	})
	if err != nil {
		return nil, err
	}
	h.stop = func() { _ = sub.Unsubscribe() }
	if err := errors.Join(sub.SetPendingLimits(-1, -1), nc.FlushTimeout(5*time.Second)); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func (h *heartbeats) seen() (count int, bytes float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count, h.bytes
}
