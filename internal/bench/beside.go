package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// BesideConfig says what to measure. This and Other are required.
type BesideConfig struct {
	// This and Other are two builds of jetway.
	This, Other string
	// Turns is how often the two take turns; 0: heartbeats alone.
	Turns int
	// Duration of one load in one turn. Default 1 s.
	Duration time.Duration
	// Heartbeats says of which drones; nil leaves them out.
	Heartbeats *HeartbeatConfig
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *BesideConfig) Validate() error {
	if c.Duration == 0 {
		c.Duration = time.Second
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.Turns < 0 || c.Turns > 1000:
		return errors.New("turns must be 0 (heartbeats only) to 1000")
	case c.Duration < 10*time.Millisecond || c.Duration > 2*time.Second:
		return errors.New("duration must be 10ms to 2s: turns are short, for the machine changes")
	}
	if _, err := os.Stat(c.Other); err != nil {
		return fmt.Errorf("the other build: %w", err)
	}
	if c.Heartbeats == nil {
		return nil
	}
	return c.Heartbeats.Validate()
}

// Beside is one figure of both builds.
type Beside struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// This and Other are medians of the turns.
	This  float64 `json:"this"`
	Other float64 `json:"other"`
	// Ratio is the median of the turns' ratios, This to Other; Low and High are quartiles.
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Turns int     `json:"turns"`
}

// besideLoads are what takes turns. One alone is told by its latency, what has company by its rate.
var besideLoads = []struct {
	name  string
	alone bool
	do    func(s *side, ctx context.Context, duration time.Duration) (Figures, error)
}{
	{"joins, 64 in flight", false, joins(64)},
	{"spawns, 64 in flight", false, spawns(64)},
	{"joins, 128 in flight", false, joins(128)},
	{"spawns, 128 in flight", false, spawns(128)},
	{"spawns to ready, 128 in flight", false, (*side).lives},
	{"one join alone", true, joins(1)},
	{"one spawn alone", true, spawns(1)},
}

func joins(inFlight int) func(*side, context.Context, time.Duration) (Figures, error) {
	return func(s *side, ctx context.Context, d time.Duration) (Figures, error) {
		return load(ctx, "joins", inFlight, d, 1, s.join), nil
	}
}

func spawns(inFlight int) func(*side, context.Context, time.Duration) (Figures, error) {
	return func(s *side, ctx context.Context, d time.Duration) (Figures, error) {
		s.turns++
		return load(ctx, "spawns", inFlight, d, 1, s.spawn), nil
	}
}

// MeasureBeside measures two builds in alternating turns of one run, and the costs of their
// heartbeats in the same time. Each has a NATS server and a Postgres of its own, both of
// this build.
func MeasureBeside(ctx context.Context, cfg BesideConfig) ([]Beside, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, remove, err := stacksDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	var all []Beside
	if cfg.Turns > 0 {
		figures, err := takeTurns(ctx, &cfg, filepath.Join(dir, "turns"))
		if err != nil {
			return nil, err
		}
		all = append(all, figures...)
	}
	if cfg.Heartbeats != nil {
		figures, err := heartbeatsBeside(ctx, &cfg, filepath.Join(dir, "heartbeats"))
		if err != nil {
			return nil, err
		}
		all = append(all, figures...)
	}
	return all, ctx.Err()
}

// stacksDir is a directory for stacks of the bench's own, until remove is called.
func stacksDir() (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "jetway-bench-"); err != nil {
		return "", nil, fmt.Errorf("make a directory for the stack: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres has a user of its own
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// startSides starts both builds.
func startSides(ctx context.Context, cfg *BesideConfig, dir, ttl string) (sides [2]*side, stop func(), err error) {
	stop = func() {
		for _, s := range sides {
			if s != nil {
				s.stop()
			}
		}
	}
	for i, program := range []string{cfg.This, cfg.Other} {
		if sides[i], err = startSide(ctx, program, filepath.Join(dir, strconv.Itoa(i)), ttl, cfg.Log); err != nil {
			stop()
			return sides, nil, fmt.Errorf("%s: %w", program, err)
		}
	}
	return sides, stop, nil
}

func takeTurns(ctx context.Context, cfg *BesideConfig, dir string) ([]Beside, error) {
	// No lease ends and no heartbeat comes while this lasts.
	sides, stop, err := startSides(ctx, cfg, dir, "1h")
	if err != nil {
		return nil, err
	}
	defer stop()
	for _, s := range sides {
		if err := s.prepare(ctx, cfg.Log); err != nil {
			return nil, err
		}
	}
	figures, costs := make([][2][]float64, len(besideLoads)), make([][2][]float64, len(besideLoads))
	for turn := range cfg.Turns {
		cfg.Progress(fmt.Sprintf("turn %d of %d", turn+1, cfg.Turns))
		for l, load := range besideLoads {
			for i := range sides {
				i = (i + turn) % 2 // who comes first changes
				before := sides[i].used()
				f, err := load.do(sides[i], ctx, cfg.Duration)
				cost := (sides[i].used() - before).Seconds() * 1e6 / float64(max(f.Count, 1))
				if err == nil && f.Failed > 0 {
					err = fmt.Errorf("%d of %d failed: %s", f.Failed, f.Failed+f.Count, f.Error)
				}
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", sides[i].program, load.name, err)
				}
				v := f.Rate
				if load.alone {
					v = f.P50
				}
				// Nobody takes these actions: else they are published again and again, beside what is measured next.
				if _, err := sides[i].db.Exec(ctx, "truncate outbox"); err != nil {
					return nil, fmt.Errorf("forget the actions of a turn: %w", err)
				}
				figures[l][i], costs[l][i] = append(figures[l][i], v), append(costs[l][i], cost)
			}
		}
	}
	var all []Beside
	for l, load := range besideLoads {
		unit := "a second"
		if load.alone {
			unit = "ms p50"
		}
		all = append(all, compare(load.name, unit, figures[l][0], figures[l][1]))
	}
	for l, load := range besideLoads {
		all = append(all, compare(load.name, "µs of CPU each", costs[l][0], costs[l][1]))
	}
	return all, nil
}

// compare sums up what two builds came to in the same turns.
func compare(name, unit string, this, other []float64) Beside {
	ratios := make([]float64, 0, len(this))
	for i := range this {
		if other[i] > 0 {
			ratios = append(ratios, this[i]/other[i])
		}
	}
	at := func(values []float64, part float64) float64 {
		if len(values) == 0 {
			return 0
		}
		sorted := slices.Sorted(slices.Values(values))
		return sorted[int(part*float64(len(sorted)-1)+0.5)]
	}
	return Beside{
		Name: name, Unit: unit, This: at(this, 0.5), Other: at(other, 0.5),
		Ratio: at(ratios, 0.5), Low: at(ratios, 0.25), High: at(ratios, 0.75), Turns: len(this),
	}
}

// heartbeatsBeside measures both at the same time.
func heartbeatsBeside(ctx context.Context, cfg *BesideConfig, dir string) ([]Beside, error) {
	sides, stop, err := startSides(ctx, cfg, dir, "60s")
	if err != nil {
		return nil, err
	}
	defer stop()
	var results [2]*HeartbeatResult
	errs := make(chan error, len(sides))
	for i, s := range sides {
		beats := *cfg.Heartbeats
		beats.Progress = func(string) {}
		if i == 0 {
			beats.Progress = cfg.Progress
		}
		go func() {
			var err error
			results[i], err = heartbeat(ctx, &beats, heartbeatSide{
				nc: s.nc, dsn: s.postgres.DSN(),
				drone:  func(name, cluster string) (func(), error) { return s.drone(ctx, name, cluster) },
				worker: s.workerUsage,
			})
			errs <- err
		}()
	}
	for range sides {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return nil, err
	}
	var all []Beside
	add := func(name, unit string, of func(r *HeartbeatResult) float64) {
		all = append(all, compare(name, unit, []float64{of(results[0])}, []float64{of(results[1])}))
	}
	add("heartbeat on the bus", "bytes", func(r *HeartbeatResult) float64 { return r.Free.Bytes })
	add("heartbeat, Postgres", "ms of CPU", func(r *HeartbeatResult) float64 { return r.Free.Postgres })
	add("heartbeat, worker", "ms of CPU", func(r *HeartbeatResult) float64 { return r.Free.Worker })
	if cfg.Heartbeats.For == 0 {
		return all, nil
	}
	add("heartbeat, Postgres, snapshot held", "ms of CPU", func(r *HeartbeatResult) float64 { return r.Held.Postgres })
	add("heartbeat, worker, snapshot held", "ms of CPU", func(r *HeartbeatResult) float64 { return r.Held.Worker })
	return all, nil
}

// side is one build, with a stack of its own.
type side struct {
	program, url string
	nats         *natsd.Server
	postgres     *postgres.Cluster
	worker       *process
	nc           *nats.Conn

	run         string
	parked      client
	turns, keys int
	// used is the processor time of worker and Postgres so far; 0 where it cannot be told.
	used func() time.Duration
	db   *pgx.Conn // nil until it is prepared
}

func startSide(ctx context.Context, program, dir, ttl string, log *slog.Logger) (s *side, err error) {
	s = &side{program: program, run: strconv.FormatInt(time.Now().UnixNano(), 36), keys: 1000}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if s.nats, err = natsd.Start(natsd.Config{StoreDir: filepath.Join(dir, "nats"), Log: log}); err != nil {
		return nil, err
	}
	s.url = s.nats.URL()
	if s.postgres, err = postgres.Start(ctx, postgres.Config{Dir: filepath.Join(dir, "postgres"), Log: log}); err != nil {
		return nil, err
	}
	if s.nc, err = nats.Connect(s.url); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	s.worker, err = s.start("the worker", "worker", "--name=wo-bench", "--postgres="+s.postgres.DSN(), "--lease-ttl="+ttl)
	if err != nil {
		return nil, err
	}
	return s, s.await(ctx, s.worker, "the worker", func() error {
		// What asks for nothing is refused by who is there.
		_, err := jetwayclient.Request[messages.ConnectResponse](ctx, s.nc, messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "nobody"}})
		if messages.KindOf(err) == messages.KeyUnheldNoSpawnConfig {
			return nil
		}
		return err
	})
}

// start runs a role of this build, until its standard input ends.
func (s *side) start(what, role string, args ...string) (*process, error) {
	argv := append([]string{"sh", "-c", `trap : TERM; "$@" </dev/null & cat; kill -9 $!; wait`, "sh", s.program, "--log-level=warn", role, "--nats=" + s.url}, args...)
	return start(what, argv, nil, nil)
}

// workerUsage is the processor time of the worker so far.
func (s *side) workerUsage() time.Duration { return s.worker.children() }

func (s *side) await(ctx context.Context, p *process, what string, there func() error) error {
	for late := time.Now().Add(startTimeout); ; {
		err := there()
		if err == nil {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s does not answer within %s: %w: %s", what, startTimeout, err, p.said.String())
		}
		rest(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *side) stop() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.db != nil {
		_ = s.db.Close(context.Background())
	}
	if s.worker != nil {
		s.worker.stop()
	}
	if s.postgres != nil {
		s.postgres.Kill()
	}
	if s.nats != nil {
		s.nats.Stop()
	}
}

// drone runs one that runs nothing, and waits until it takes backends.
func (s *side) drone(ctx context.Context, name, cluster string) (stop func(), err error) {
	p, err := s.start("a drone", "drone", "--name="+name, "--cluster="+cluster, "--runtime=fake")
	if err != nil {
		return nil, err
	}
	c := newClient(s.nc, "first-"+name, cluster)
	if err := s.await(ctx, p, "the drone", func() error { return c.connect(ctx, "first", 0) }); err != nil {
		p.stop()
		return nil, err
	}
	return p.stop, nil
}

// prepare parks a drone, and spawns what is joined.
func (s *side) prepare(ctx context.Context, log *slog.Logger) error {
	cluster, _, err := park(ctx, s.nc, "dr-parked", "parked-"+cluster(s.run), log)
	if err != nil {
		return err
	}
	s.parked = newClient(s.nc, s.run, cluster)
	conn, err := pgx.Connect(ctx, s.postgres.DSN())
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	s.db = conn
	postgres, _, _, err := postgresUsage(ctx, conn)
	if err != nil {
		return err
	}
	s.used = func() time.Duration { return postgres() + s.workerUsage() }
	for n := range s.keys {
		if err := s.parked.connect(ctx, "join", n); err != nil {
			return fmt.Errorf("spawn a backend to join: %w", err)
		}
	}
	return nil
}

func (s *side) join(ctx context.Context, n int) error {
	// A stride that is prime to the number of keys, so that a batch has many.
	return s.parked.connect(ctx, "join", n*7919%s.keys)
}

func (s *side) spawn(ctx context.Context, n int) error {
	return s.parked.connect(ctx, "parked-"+strconv.Itoa(s.turns), n)
}

// livesRate is more than either build spawns a second: there is room for as many.
const livesRate = 24000

// lives has drones of this build take, start and report what is spawned.
func (s *side) lives(ctx context.Context, d time.Duration) (Figures, error) {
	s.turns++
	name := fmt.Sprintf("%s-%d", s.run, s.turns)
	for n := range drones(int(livesRate * d.Seconds())) {
		stop, err := s.drone(ctx, fmt.Sprintf("dr-%s-%d", name, n), cluster(name))
		if err != nil {
			return Figures{}, err
		}
		defer stop()
	}
	c := newClient(s.nc, name, cluster(name))
	return c.lives(ctx, 128, d)
}
