package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// SleepConfig says what to measure. Program, Root, DroneCommand, ProxyCommand and Log are required.
type SleepConfig struct {
	// Program is a jetway, for a stack of the bench's own.
	Program string
	// Root is the directory of `room`, which sleeps.
	Root string
	// DroneCommand and ProxyCommand give commands that run a drone and a proxy until their standard input ends.
	DroneCommand func(StartDrone) []string
	ProxyCommand func(name, listen string) []string
	// Environ is what they know a NATS server by.
	Environ func(natsURL string) []string
	// Visits is how many there are of each kind. Default 100.
	Visits int
	// Sleepers is how many backends sleep on one drone, Window how long that is measured. Default 1000, and 1 minute.
	Sleepers int
	Window   time.Duration
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *SleepConfig) Validate() error {
	c.Visits, c.Sleepers, c.Window = cmp.Or(c.Visits, 100), cmp.Or(c.Sleepers, 1000), cmp.Or(c.Window, time.Minute)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.Visits < 1 || c.Visits > 10_000:
		return errors.New("visits must be 1 to 10000")
	case c.Sleepers < 1 || c.Sleepers > messages.MaxNamed:
		return fmt.Errorf("sleepers must be 1 to %d, as many as a drone holds", messages.MaxNamed)
	case c.Window < 100*time.Millisecond || c.Window > time.Hour:
		return errors.New("window must be 100ms to 1h")
	}
	if _, err := os.Stat(filepath.Join(c.Root, "room")); err != nil {
		return fmt.Errorf("what sleeps is room, of --process-root: %w; make build puts it beside jetway", err)
	}
	return nil
}

// How a backend is found that is visited.
const (
	VisitAwake      = "awake"
	VisitRemembered = "asleep, by a link that the proxy remembers"
	VisitAsked      = "asleep, by one that it has to ask for"
)

// VisitFigures are how long it took from a request to the first byte of its answer, through the proxy.
type VisitFigures struct {
	What  string  `json:"what"`
	How   string  `json:"how"`
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	// OfAwake is the ratio of the medians.
	OfAwake float64 `json:"of_awake_p50,omitempty"`
}

// RestFigures are what backends cost that nobody uses, in a window.
type RestFigures struct {
	What     string `json:"what"`
	Backends int    `json:"backends"`
	// Agent, Worker and Programs are what they used of one core, in percent; Programs are the backends themselves.
	Agent    float64 `json:"agent_core_percent"`
	Worker   float64 `json:"worker_core_percent"`
	Programs float64 `json:"programs_core_percent"`
	// Written is how many rows of Postgres were written a second, Transactions how many there were, of all that looks and renews too.
	Written      float64 `json:"rows_written_a_second"`
	Transactions float64 `json:"transactions_a_second"`
}

// SleepResult is what was measured.
type SleepResult struct {
	Visits []VisitFigures `json:"visits"`
	Rest   []RestFigures  `json:"rest"`
	// Without says why there are no containers in it; "" when there are.
	Without string `json:"without,omitempty"`
}

// Sleep measures what visitors of sleeping backends wait for, and what sleeping backends cost, with a stack of its own.
func Sleep(ctx context.Context, cfg SleepConfig) (r *SleepResult, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, remove, err := stacksDir()
	if err != nil {
		return nil, err
	}
	defer remove()
	s, err := startSide(ctx, cfg.Program, dir, "1m", cfg.Log)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	b := &sleepBench{cfg: &cfg, side: s, dir: dir, said: make(chan messages.Report, 4*messages.MaxNamed)}
	defer b.stop()
	if b.listen, err = freeAddress(); err != nil {
		return nil, err
	}
	proxy, err := start("the proxy", cfg.ProxyCommand("px-bench", b.listen), cfg.Environ(s.url), nil)
	if err != nil {
		return nil, err
	}
	b.processes = append(b.processes, proxy)

	r = new(SleepResult)
	room := messages.Encode(map[string]any{"command": []string{"room"}})
	processes, err := b.drone(StartProcess, StartDrone{Runtime: "process"}, room)
	if err != nil {
		return nil, err
	}
	if err := b.visits(ctx, r, processes); err != nil {
		return nil, err
	}
	engine, err := openEngine(ctx, filepath.Join(cfg.Root, "room"), s.run)
	switch {
	case errors.Is(err, ErrNoEngine):
		r.Without = err.Error()
	case err != nil:
		return nil, err
	default:
		containers, err := b.drone(StartContainer, StartDrone{Runtime: "docker", DockerHost: engine.host},
			messages.Encode(map[string]any{"image": engine.image, "pull_policy": "Never"}))
		if err == nil {
			err = b.visits(ctx, r, containers)
		}
		b.stop(1) // before its image goes
		if err := errors.Join(err, engine.close("label=io.jetway.drone="+containers.name)); err != nil {
			return nil, err
		}
	}
	return r, b.rest(ctx, r, processes)
}

// sleepBench is a stack whose backends sleep.
type sleepBench struct {
	cfg         *SleepConfig
	side        *side
	dir, listen string
	processes   []*process
	said        chan messages.Report // by drones
}

// stop ends what was started last, so many of it; all without a number.
func (b *sleepBench) stop(n ...int) {
	left := 0
	if len(n) > 0 {
		left = len(b.processes) - n[0]
	}
	for _, p := range b.processes[left:] {
		p.stop()
	}
	b.processes = b.processes[:left]
}

// sleepDrone is a drone, with what it runs.
type sleepDrone struct {
	what, name, cluster string
	executable          json.RawMessage
	process             *process
}

func (b *sleepBench) drone(what string, d StartDrone, executable json.RawMessage) (*sleepDrone, error) {
	d.Name, d.Cluster, d.DataDir = "dr-bench-"+d.Runtime+"-"+b.side.run, d.Runtime+"-"+cluster(b.side.run), filepath.Join(b.dir, d.Runtime)
	_, err := b.side.nc.Subscribe(messages.ReportSubject(d.Name), func(m *nats.Msg) {
		if r, err := messages.Decode[messages.ReportRequest](m.Data); err == nil {
			for _, one := range r.Reports {
				b.said <- one
			}
		}
	})
	if err != nil {
		return nil, err
	}
	p, err := start("the drone", b.cfg.DroneCommand(d), b.cfg.Environ(b.side.url), nil)
	if err != nil {
		return nil, err
	}
	b.processes = append(b.processes, p)
	return &sleepDrone{what, d.Name, d.Cluster, executable, p}, nil
}

// connect spawns a backend or joins it, as soon as the drone is there.
func (b *sleepBench) connect(ctx context.Context, d *sleepDrone, key string) (resp messages.ConnectResponse, err error) {
	req := messages.ConnectRequest{Key: &messages.Key{Name: key}, SpawnConfig: &messages.SpawnConfig{Cluster: d.cluster, Executable: d.executable}}
	for late := time.Now().Add(startTimeout); ; rest(ctx, 50*time.Millisecond) {
		resp, err = jetwayclient.Request[messages.ConnectResponse](ctx, b.side.nc, messages.SubjectConnect, req)
		if messages.KindOf(err) != messages.NoDroneAvailable || time.Now().After(late) || ctx.Err() != nil {
			return resp, err
		}
	}
}

// turn has backends put to sleep, or woken, and waits until their drone has done it. It asks again: who has just been there may wake one.
func (b *sleepBench) turn(ctx context.Context, subject string, ids ...string) error {
	left := make(map[string]bool, len(ids))
	for _, id := range ids {
		left[id] = true
	}
	for late := time.Now().Add(startTimeout); len(left) > 0; {
		if err := b.ask(ctx, subject, slices.Collect(maps.Keys(left))); err != nil {
			return err
		}
		for quiet := time.NewTimer(time.Second); len(left) > 0; {
			select {
			case r := <-b.said:
				if r.Asleep == (subject == messages.SubjectSleep) {
					delete(left, r.BackendID)
				}
				continue
			case <-quiet.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			break
		}
		if time.Now().After(late) {
			return fmt.Errorf("a drone has not done what it is to do within %s", startTimeout)
		}
	}
	return nil
}

func (b *sleepBench) ask(ctx context.Context, subject string, ids []string) error {
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for i := g; i < len(ids) && errs[g] == nil; i += len(errs) {
				_, errs[g] = jetwayclient.Request[messages.NapResponse](ctx, b.side.nc, subject, messages.NapRequest{BackendID: ids[i]})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// await takes in what drones say until it is as wanted.
func (b *sleepBench) await(ctx context.Context, done func(*messages.Report) bool) error {
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	for {
		select {
		case r := <-b.said:
			if done(&r) {
				return nil
			}
		case <-late.C:
			return fmt.Errorf("a drone has not done what it is to do within %s", startTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// visits measures one backend of a drone, in turns.
func (b *sleepBench) visits(ctx context.Context, r *SleepResult, d *sleepDrone) error {
	b.cfg.Progress(fmt.Sprintf("%d visits of a %s, awake and asleep in turns", b.cfg.Visits, d.what))
	first, err := b.connect(ctx, d, d.what)
	if err != nil {
		return fmt.Errorf("spawn a %s: %w", d.what, err)
	}
	id := first.BackendID
	if err := b.await(ctx, func(r *messages.Report) bool { return r.BackendID == id && r.Status == messages.Ready }); err != nil {
		return err
	}
	tokens := make([]string, b.cfg.Visits) // that the proxy does not know; who joins later would wake it
	for i := range tokens {
		resp, err := b.connect(ctx, d, d.what)
		if err != nil {
			return fmt.Errorf("join a %s: %w", d.what, err)
		}
		tokens[i] = resp.Token
	}
	conn, err := net.Dial("tcp", b.listen)
	if err != nil {
		return fmt.Errorf("connect to the proxy: %w", err)
	}
	defer func() { _ = conn.Close() }()
	from := bufio.NewReader(conn)
	visit := func(token string) (time.Duration, error) {
		_ = conn.SetDeadline(time.Now().Add(startTimeout))
		began := time.Now()
		_, err := fmt.Fprintf(conn, "HEAD /%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", token, d.cluster)
		if err == nil {
			_, err = from.Peek(1)
		}
		took := time.Since(began)
		if err != nil {
			return 0, fmt.Errorf("visit a %s: %w", d.what, err)
		}
		resp, err := http.ReadResponse(from, &http.Request{Method: http.MethodHead}) //nolint:bodyclose // there is none
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("visit a %s: it is answered with %s", d.what, resp.Status)
		}
		return took, err
	}
	took := map[string][]time.Duration{}
	for n := -1; n < b.cfg.Visits; n++ { // the first of each is not counted
		for _, how := range []string{VisitAwake, VisitRemembered, VisitAsked} {
			token := first.Token
			if how == VisitAsked {
				token = tokens[max(n, 0)]
			}
			if how != VisitAwake {
				if err := b.turn(ctx, messages.SubjectSleep, id); err != nil {
					return err
				}
				rest(ctx, 20*time.Millisecond) // what sleeps was not visited just now
				for len(b.said) > 0 {
					<-b.said
				}
			}
			t, err := visit(token)
			if err != nil {
				return err
			}
			if n >= 0 {
				took[how] = append(took[how], t)
			}
		}
	}
	for _, how := range []string{VisitAwake, VisitRemembered, VisitAsked} {
		slices.Sort(took[how])
		f := VisitFigures{What: d.what, How: how, Count: len(took[how]), P50: percentile(took[how], 50), P99: percentile(took[how], 99)}
		if how != VisitAwake {
			f.OfAwake = f.P50 / percentile(took[VisitAwake], 50)
		}
		r.Visits = append(r.Visits, f)
	}
	return nil
}

// rest measures what a drone's backends cost that nobody uses: none, awake, and asleep.
func (b *sleepBench) rest(ctx context.Context, r *SleepResult, d *sleepDrone) error {
	conn, err := pgx.Connect(ctx, b.side.postgres.DSN())
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	look := func() (written, transactions int64, err error) {
		err = conn.QueryRow(ctx, "select sum(tup_inserted + tup_updated + tup_deleted)::int8, sum(xact_commit)::int8 from pg_stat_database where datname = current_database()").Scan(&written, &transactions)
		return written, transactions, err
	}
	agent := strconv.Itoa(d.process.cmd.Process.Pid)
	measure := func(what string, n int) error {
		b.cfg.Progress(fmt.Sprintf("%d backends, %s, for %s", n, what, b.cfg.Window))
		rest(ctx, min(b.cfg.Window, 5*time.Second)) // what came before left to do
		w0, t0, err := look()
		if err != nil {
			return fmt.Errorf("ask Postgres what was written: %w", err)
		}
		began, agent0, worker0 := time.Now(), processUsage(agent), b.side.workerUsage()
		programs0 := d.process.children()
		rest(ctx, b.cfg.Window)
		took := time.Since(began)
		f := RestFigures{What: what, Backends: n}
		core := func(used time.Duration) float64 { return used.Seconds() / took.Seconds() * 100 }
		f.Agent, f.Worker, f.Programs = core(processUsage(agent)-agent0), core(b.side.workerUsage()-worker0), core(d.process.children()-programs0)
		w1, t1, err := look()
		f.Written, f.Transactions = float64(w1-w0)/took.Seconds(), float64(t1-t0)/took.Seconds()
		r.Rest = append(r.Rest, f)
		return errors.Join(err, ctx.Err())
	}
	if err := measure("none", 0); err != nil {
		return err
	}
	b.cfg.Progress(fmt.Sprintf("starting %d backends", b.cfg.Sleepers))
	ids, errs := make([]string, b.cfg.Sleepers), make([]error, 8)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for i := g; i < len(ids) && errs[g] == nil && ctx.Err() == nil; i += len(errs) {
				var resp messages.ConnectResponse
				resp, errs[g] = b.connect(ctx, d, "sleeper-"+strconv.Itoa(i))
				ids[i] = resp.BackendID
			}
		})
	}
	left := len(ids)
	err = b.await(ctx, func(r *messages.Report) bool {
		if r.Status == messages.Ready && r.Nap.Nap == 0 {
			left--
		}
		return left <= 0
	})
	wg.Wait()
	if err := errors.Join(err, errors.Join(errs...)); err != nil {
		return fmt.Errorf("spawn what is to sleep: %w", err)
	}
	if err := measure(VisitAwake, len(ids)); err != nil {
		return err
	}
	if err := b.turn(ctx, messages.SubjectSleep, ids...); err != nil {
		return fmt.Errorf("have %d backends sleep: %w", len(ids), err)
	}
	return measure("asleep", len(ids))
}
