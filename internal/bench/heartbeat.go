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

// HeartbeatConfig says what to measure. Log is required, and Dial and DSN or Program.
type HeartbeatConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// DSN is that of the stack's database.
	DSN string
	// Program is a jetway for a stack of the bench's own instead, whose worker is a process that can be measured.
	Program string
	// LeaseTTL is that of Program's leases. Default 1 minute.
	LeaseTTL time.Duration
	// Drones is how many there are, Backends how many each of them holds. Default 1, and
	// as many as a drone holds at most.
	Drones, Backends int
	// Window is how long heartbeats are measured at least, until all drones have sent one. Default 1 minute. In 10 minutes
	// each drone has what it holds compared once.
	Window time.Duration
	// For is how long a snapshot is held before heartbeats are measured under it; 0: there is none.
	For time.Duration
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

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
	if c.Window == 0 {
		c.Window = time.Minute
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = time.Minute
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.Drones < 1 || c.Drones > 1000:
		return errors.New("drones must be 1 to 1000")
	case c.Backends < 1 || c.Backends > messages.MaxNamed:
		return fmt.Errorf("backends must be 1 to %d, as many as a drone holds", messages.MaxNamed)
	case c.Window < 100*time.Millisecond || c.Window > time.Hour:
		return errors.New("window must be 100ms to 1h")
	case c.For < 0 || c.For > time.Hour:
		return errors.New("for must be 0s (no snapshot is held) to 1h")
	}
	return nil
}

// HeartbeatFigures are what heartbeats cost.
type HeartbeatFigures struct {
	Name string `json:"name"`
	// Count is how many there were, Seconds the time in which they were, and Compared how often a drone named all that it
	// holds meanwhile.
	Count    int     `json:"count"`
	Compared int     `json:"compared"`
	Seconds  float64 `json:"seconds"`
	// Bytes are those of a request and its reply on the bus.
	Bytes float64 `json:"bytes"`
	// Postgres and Worker are the processor time that one takes, in milliseconds: what their
	// processes used, less what they used in that time without drones. 0 where it cannot be told.
	Postgres float64 `json:"postgres_ms,omitempty"`
	Worker   float64 `json:"worker_ms,omitempty"`
	// Bare is what Postgres took for a "select 1" meanwhile, asked once a second: less than that
	// nothing costs on a machine as busy.
	Bare float64 `json:"bare_ms,omitempty"`
	// Core is what both used together, in percent of one core, whatever for: nothing is taken off, and vacuums and
	// checkpoints are in it.
	Core float64 `json:"core_percent,omitempty"`
}

// HeartbeatResult is what was measured.
type HeartbeatResult struct {
	Drones   int               `json:"drones"`
	Backends int               `json:"backends"`
	Idle     HeartbeatFigures  `json:"idle"`
	Free     HeartbeatFigures  `json:"free"`
	Held     *HeartbeatFigures `json:"snapshot_held,omitempty"`
}

// All gives the figures of all.
func (r *HeartbeatResult) All() []HeartbeatFigures {
	all := []HeartbeatFigures{r.Idle, r.Free}
	if r.Held != nil {
		all = append(all, *r.Held)
	}
	return all
}

// Heartbeat measures what the heartbeats of drones with many backends cost a running stack,
// which has nothing else to do.
func Heartbeat(ctx context.Context, cfg HeartbeatConfig) (*HeartbeatResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Program != "" {
		return ownHeartbeat(ctx, &cfg)
	}
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return heartbeat(ctx, &cfg, heartbeatSide{nc: nc, dsn: cfg.DSN, drone: inProcess(ctx, cfg.Dial, cfg.Log, time.Minute)})
}

// ownHeartbeat measures a stack of its own.
func ownHeartbeat(ctx context.Context, cfg *HeartbeatConfig) (*HeartbeatResult, error) {
	dir, remove, err := stacksDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	s, err := startSide(ctx, cfg.Program, dir, cfg.LeaseTTL.String(), cfg.Log)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	dial := func(name string) (*nats.Conn, error) { return nats.Connect(s.url, nats.Name(name)) }
	// The stack goes with what they hold: they do not wait for its end to be reported.
	drone := inProcess(ctx, dial, slog.New(slog.DiscardHandler), time.Millisecond)
	return heartbeat(ctx, cfg, heartbeatSide{nc: s.nc, dsn: s.postgres.DSN(), drone: drone, worker: s.workerUsage})
}

// inProcess starts drones in this process, which have so long to report the ends of what they hold.
func inProcess(ctx context.Context, dial func(name string) (*nats.Conn, error), log *slog.Logger, ending time.Duration) func(name, cluster string) (func(), error) {
	return func(name, cluster string) (func(), error) { return startDrone(ctx, dial, log, name, cluster, ending) }
}

// heartbeatSide is a stack whose heartbeats are measured.
type heartbeatSide struct {
	nc     *nats.Conn
	dsn    string
	drone  func(name, cluster string) (stop func(), err error)
	worker func() time.Duration // nil: not measured
}

func heartbeat(ctx context.Context, cfg *HeartbeatConfig, s heartbeatSide) (*HeartbeatResult, error) {
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	postgres, allOfPostgres, own, err := postgresUsage(ctx, conn)
	if err != nil {
		return nil, err
	}
	beats, err := listen(s.nc)
	if err != nil {
		return nil, err
	}
	defer beats.stop()
	used := func() (pg, worker time.Duration) {
		if s.worker != nil {
			worker = s.worker()
		}
		return postgres(), worker
	}
	// measure gives what was used in a window with so many drones.
	measure := func(name string, drones int, window time.Duration) (f HeartbeatFigures, pg, worker time.Duration, err error) {
		cfg.Progress(name)
		all0, own0, bare := allOfPostgres(), own(), 0
		pg0, worker0 := used()
		began, before := time.Now(), beats.seen()
		for end := began.Add(window); ; {
			rest(ctx, min(max(time.Until(end), 10*time.Millisecond), time.Second))
			if _, err := conn.Exec(ctx, "select 1"); err != nil {
				return f, 0, 0, fmt.Errorf("ask Postgres for nothing: %w", err)
			}
			bare++
			used() // what ends before it is asked is not counted
			seen := beats.seen()
			f = HeartbeatFigures{Name: name, Count: seen.count - before.count, Compared: seen.compared - before.compared, Bytes: seen.bytes - before.bytes}
			if ctx.Err() != nil {
				return f, 0, 0, ctx.Err()
			}
			if f.Count >= drones && time.Now().After(end) {
				break
			}
			if time.Since(end) > startTimeout+time.Minute {
				return f, 0, 0, fmt.Errorf("of %d drones only %d heartbeats were seen: subscribing to all subjects must be allowed", drones, f.Count)
			}
		}
		f.Seconds = time.Since(began).Seconds()
		pg, worker = used()
		pg, worker = pg-pg0, worker-worker0
		f.Bare = (own() - own0).Seconds() * 1000 / float64(bare)
		f.Core = (allOfPostgres() - all0 + worker).Seconds() / f.Seconds * 100
		return f, pg, worker, nil
	}

	rest(ctx, min(cfg.Window, 5*time.Second)) // what its start left to do
	idle, idlePg, idleWorker, err := measure("without drones", 0, min(cfg.Window, time.Minute))
	if err != nil {
		return nil, err
	}
	cfg.Progress(fmt.Sprintf("bringing %d drones with %d backends each", cfg.Drones, cfg.Backends))
	var ending sync.WaitGroup
	defer ending.Wait()
	for d := range cfg.Drones { // each in a cluster of its own, so that they share evenly
		name := fmt.Sprintf("%s-%d", run, d)
		stop, err := s.drone("dr-beat-"+name, cluster(name))
		if err != nil {
			return nil, err
		}
		defer ending.Go(stop) // all at once
		if err := fill(ctx, s.nc, name, cfg.Backends); err != nil {
			return nil, err
		}
	}
	r := &HeartbeatResult{Drones: cfg.Drones, Backends: cfg.Backends, Idle: idle}
	one := func(name string) (HeartbeatFigures, error) {
		f, pg, worker, err := measure(name, cfg.Drones, cfg.Window)
		if err != nil {
			return f, err
		}
		n, part := float64(f.Count), f.Seconds/idle.Seconds
		per := func(used, idle time.Duration) float64 {
			return max(0, (used.Seconds()-idle.Seconds()*part)*1000/n)
		}
		f.Bytes, f.Postgres, f.Worker = f.Bytes/n, per(pg, idlePg), per(worker, idleWorker)
		return f, nil
	}
	rest(ctx, min(2*cfg.Window, settled)) // what spawns left to do, and what is looked at once
	if r.Free, err = one("heartbeat"); err != nil || cfg.For == 0 {
		return r, err
	}
	cfg.Progress(fmt.Sprintf("holding a snapshot for %s", cfg.For))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("hold a snapshot: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, "select count(*) from drone"); err != nil {
		return nil, fmt.Errorf("hold a snapshot: %w", err)
	}
	rest(ctx, cfg.For)
	held, err := one("heartbeat, snapshot held")
	r.Held = &held
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
	sum     beatsSeen
}

// beatsSeen are heartbeats that were answered, and registrations that were asked for.
type beatsSeen struct {
	count, compared int
	bytes           float64
}

func listen(nc *nats.Conn) (*heartbeats, error) {
	h := &heartbeats{replies: make(map[string]bool)}
	sub, err := nc.Subscribe(">", func(m *nats.Msg) {
		drones := strings.HasPrefix(m.Subject, "jetway.drone.")
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case drones && strings.HasSuffix(m.Subject, ".heartbeat"):
			h.replies[m.Reply] = true
			h.sum.bytes += float64(m.Size())
		case drones && strings.HasSuffix(m.Subject, ".register"):
			h.sum.compared++
		case h.replies[m.Subject]:
			delete(h.replies, m.Subject)
			h.sum.count++
			h.sum.bytes += float64(m.Size())
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

func (h *heartbeats) seen() beatsSeen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sum
}
