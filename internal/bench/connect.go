package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// ConnectConfig says what to measure. The connections and the log are required.
type ConnectConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// DSN is that of the stack's database, for C2.
	DSN string
	// InFlight is how many requests of a load are under way at once. Default 128: two
	// full batches, which is also what C2 has under way.
	InFlight int
	// Duration of each load. Default 5 s.
	Duration time.Duration
	// Keys is how many backends the joins are spread over. Default 1000.
	Keys int
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *ConnectConfig) Validate() error {
	if c.InFlight == 0 {
		c.InFlight = ceiling2Batch * ceiling2InFlight
	}
	if c.Duration == 0 {
		c.Duration = 5 * time.Second
	}
	if c.Keys == 0 {
		c.Keys = 1000
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.InFlight < 1 || c.InFlight > 4096:
		return errors.New("concurrency must be 1 to 4096")
	case c.Duration < 100*time.Millisecond || c.Duration > 10*time.Minute:
		return errors.New("duration must be 100ms to 10m")
	case c.Keys < 1 || c.Keys > 10000:
		return errors.New("keys must be 1 to 10000")
	}
	return nil
}

// ConnectResult is what was measured.
type ConnectResult struct {
	C1        Figures `json:"c1"`
	C2        Figures `json:"c2"`
	IdleSpawn Figures `json:"idle_spawn"`
	Joins     Figures `json:"joins"`
	// Spawns is the connect path alone: from the request to the reply, the event and
	// the action, whose drone takes none meanwhile.
	Spawns Figures `json:"spawns"`
	// Lives is the same while drones, on the same cores, take every spawn, start it and
	// report it ready: how many are ready a second, until all of them are.
	Lives Figures `json:"spawns_to_ready"`
}

// All gives the figures in order.
func (r *ConnectResult) All() []Figures {
	return []Figures{r.C1, r.C2, r.IdleSpawn, r.Joins, r.Spawns, r.Lives}
}

// idleSpawns is how many spawns are made one after another.
const idleSpawns = 500

// Connect measures the connect path of a running stack.
func Connect(ctx context.Context, cfg ConnectConfig) (*ConnectResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	// What is joined and what is started are on drones of their own: each takes messages.MaxNamed.
	stop, err := startDrones(ctx, cfg.Dial, cfg.Log, "dr-bench-"+run, cluster(run), drones(idleSpawns+cfg.Keys))
	if err != nil {
		return nil, err
	}
	defer stop()

	r := new(ConnectResult)
	cfg.Progress("C1: NATS request and reply")
	if r.C1, err = ceiling1(ctx, &cfg, nc, run); err != nil {
		return nil, err
	}
	cfg.Progress("C2: bare rows")
	if r.C2, err = ceiling2(ctx, &cfg); err != nil {
		return nil, err
	}

	c := newClient(nc, run, cluster(run))
	cfg.Progress("idle spawns")
	if r.IdleSpawn, err = c.idleSpawns(ctx); err != nil {
		return nil, err
	}
	for n := range cfg.Keys {
		if err := c.connect(ctx, "join", n); err != nil {
			return nil, fmt.Errorf("spawn a backend to join: %w", err)
		}
	}
	cfg.Progress("joins")
	r.Joins = load(ctx, "joins", cfg.InFlight, cfg.Duration, 1, func(ctx context.Context, n int) error {
		// A stride that is prime to the number of keys, so that a batch has many.
		return c.connect(ctx, "join", n*7919%cfg.Keys)
	})
	cfg.Progress("spawns")
	parked, leave, err := park(ctx, nc, "dr-parked-"+run, "parked-"+cluster(run), cfg.Log)
	if err != nil {
		return nil, err
	}
	p := newClient(nc, run, parked)
	r.Spawns = load(ctx, "spawns", cfg.InFlight, cfg.Duration, 1, func(ctx context.Context, n int) error {
		return p.connect(ctx, "parked", n)
	})
	leave()
	cfg.Progress("spawns to ready")
	// They are fewer than the spawns alone, so there is room for them all.
	lively := "lively-" + cluster(run)
	stopLively, err := startDrones(ctx, cfg.Dial, cfg.Log, "dr-lively-"+run, lively, drones(cfg.InFlight+int(1.2*r.Spawns.Rate*cfg.Duration.Seconds())))
	if err != nil {
		return nil, err
	}
	defer stopLively()
	l := newClient(nc, run, lively)
	if r.Lives, err = l.lives(ctx, cfg.InFlight, cfg.Duration); err != nil {
		return nil, err
	}
	for _, f := range []*Figures{&r.Joins, &r.Spawns, &r.Lives} {
		f.OfC1 = f.Rate / r.C1.Rate
	}
	for _, f := range []*Figures{&r.Spawns, &r.Lives} {
		f.OfC2 = f.Rate / r.C2.Rate
	}
	cfg.Progress("ending what was spawned")
	return r, ctx.Err()
}

// ceiling1 is an echo on another connection.
func ceiling1(ctx context.Context, cfg *ConnectConfig, nc *nats.Conn, run string) (Figures, error) {
	echo, err := cfg.Dial("jetway-bench-echo")
	if err != nil {
		return Figures{}, err
	}
	defer echo.Close()
	subject := "jetway.bench.echo." + run
	if _, err := echo.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		return Figures{}, err
	}
	if err := echo.FlushTimeout(askTimeout); err != nil {
		return Figures{}, err
	}
	payload := []byte(strings.Repeat("x", 300))
	f := load(ctx, "C1 echo", ceiling1InFlight, cfg.Duration, 1, func(ctx context.Context, _ int) error {
		_, err := nc.Request(subject, payload, askTimeout)
		return err
	})
	return f, figuresError(f)
}

// ceiling1InFlight is by definition, however many the loads have in flight: so their
// ratios can be compared.
const ceiling1InFlight = 64

// ceiling2Batch and ceiling2InFlight are those of a worker.
const (
	ceiling2Batch    = 64
	ceiling2InFlight = 2
)

func ceiling2(ctx context.Context, cfg *ConnectConfig) (Figures, error) {
	c, err := newRowCeiling(ctx, cfg.DSN)
	if err != nil {
		return Figures{}, err
	}
	f := load(ctx, "C2 rows", ceiling2InFlight, cfg.Duration, ceiling2Batch, func(ctx context.Context, _ int) error {
		return c.write(ctx, ceiling2Batch)
	})
	return f, errors.Join(figuresError(f), c.close(context.WithoutCancel(ctx)))
}

func figuresError(f Figures) error {
	if f.Count == 0 {
		return fmt.Errorf("%s: nothing came through: %s", f.Name, f.Error)
	}
	return nil
}

// lives spawns and waits until all are ready. Their rate is that of both.
func (c *client) lives(ctx context.Context, inFlight int, duration time.Duration) (Figures, error) {
	ready, stop, err := c.readies()
	if err != nil {
		return Figures{}, err
	}
	defer stop()
	began := time.Now()
	f := load(ctx, "spawns to ready", inFlight, duration, 1, func(ctx context.Context, n int) error {
		return c.connect(ctx, "spawn", n)
	})
	f.Ready = float64(ready.Load()) / float64(max(f.Count, 1))
	if err := awaitReady(ctx, ready, f.Count, time.Now().Add(readyTimeout)); err != nil {
		return f, err
	}
	f.Rate = float64(f.Count) / time.Since(began).Seconds()
	return f, nil
}

// readyTimeout is how long backends that run nothing may take to be ready. Only a hang meets it.
const readyTimeout = 10 * time.Minute

// readies counts the backends that become ready, all of them the bench's.
func (c *client) readies() (*atomic.Int64, func(), error) {
	ready := new(atomic.Int64)
	sub, err := c.nc.Subscribe(messages.SubjectAnyBackendEvent, func(m *nats.Msg) {
		if bytes.Contains(m.Data, []byte(`"status":"ready"`)) {
			ready.Add(1)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(sub.SetPendingLimits(-1, -1), c.nc.FlushTimeout(5*time.Second)); err != nil {
		_ = sub.Unsubscribe()
		return nil, nil, err
	}
	return ready, func() { _ = sub.Unsubscribe() }, nil
}

func awaitReady(ctx context.Context, ready *atomic.Int64, n int, late time.Time) error {
	for ready.Load() < int64(n) {
		if time.Now().After(late) {
			return fmt.Errorf("of %d backends of the bench's drones only %d were ready %s after the last was spawned", n, ready.Load(), readyTimeout)
		}
		rest(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// client sends connects as a web tier would.
type client struct {
	nc   *nats.Conn
	rest string // of a request, after the key's name
}

// askTimeout is the most that a worker takes: a machine that is slow is measured, too.
const askTimeout = time.Minute

// patient tells workers of it.
var patient = nats.Header{messages.HeaderTimeout: {askTimeout.String()}}

func newClient(nc *nats.Conn, run, cluster string) client {
	return client{nc: nc, rest: `","namespace":"` + run + `"},"spawn_config":{"cluster":"` + cluster + `","executable":{"command":["nothing"]}}}`}
}

// connect asks as cheaply as C1 does, so that what is measured is the stack and
// not the asker: the payload is put together from bytes, and of the reply it is
// looked only whether it is a refusal.
func (c *client) connect(_ context.Context, what string, n int) error {
	_, err := c.ask(what, n)
	return err
}

func (c *client) ask(what string, n int) ([]byte, error) {
	payload := make([]byte, 0, 256)
	payload = append(payload, `{"key":{"name":"`...)
	payload = append(payload, what...)
	payload = append(payload, '-')
	payload = strconv.AppendInt(payload, int64(n), 10)
	payload = append(payload, c.rest...)
	reply, err := c.nc.RequestMsg(&nats.Msg{Subject: messages.SubjectConnect, Header: patient, Data: payload}, askTimeout)
	if err != nil {
		return nil, err
	}
	if why := reply.Header.Get(messages.HeaderError); why != "" {
		return nil, fmt.Errorf("%s: %s", reply.Header.Get(messages.HeaderErrorCode), why)
	}
	return reply.Data, nil
}

func (c *client) spawn(what string, n int) (resp messages.ConnectResponse, err error) {
	data, err := c.ask(what, n)
	if err == nil {
		err = json.Unmarshal(data, &resp)
	}
	if err == nil && (resp.Token == "" || !resp.Spawned) {
		err = fmt.Errorf("the reply is of no spawn: %s", data)
	}
	return resp, err
}

// idleSpawns times spawns one at a time, from request to reply. Between two of
// them it waits until the backend is ready, so that nothing else is under way.
func (c *client) idleSpawns(ctx context.Context) (Figures, error) {
	ready := make(chan string, 64)
	sub, err := c.nc.Subscribe(messages.SubjectAnyBackendEvent, func(m *nats.Msg) {
		var event messages.StateEvent
		if json.Unmarshal(m.Data, &event) == nil && event.Status == messages.Ready {
			select {
			case ready <- event.BackendID:
			default: // not ours: only one of ours is under way
			}
		}
	})
	if err != nil {
		return Figures{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.nc.FlushTimeout(askTimeout); err != nil {
		return Figures{}, err
	}
	took := make([]time.Duration, 0, idleSpawns)
	began := time.Now()
	for n := range idleSpawns {
		start := time.Now()
		resp, err := c.spawn("idle", n)
		if err != nil {
			return Figures{}, fmt.Errorf("spawn one backend: %w", err)
		}
		took = append(took, time.Since(start))
		if err := await(ctx, ready, resp.BackendID); err != nil {
			return Figures{}, err
		}
	}
	return figures("one idle spawn", took, time.Since(began), 1), nil
}

// await waits until one backend is ready.
func await(ctx context.Context, ready <-chan string, backend string) error {
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for {
		select {
		case id := <-ready:
			if id == backend {
				return nil
			}
		case <-late.C:
			return fmt.Errorf("backend %s of the bench's drone was not ready within 10 s", backend)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
