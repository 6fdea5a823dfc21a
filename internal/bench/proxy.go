package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// The ways to the backend.
const (
	ViaDirect = "direct"
	ViaNginx  = "nginx"
	ViaJetway = "jetway"
	ViaSecure = "jetway, https"
)

// ProxyConfig says what to measure. Dial, the commands and the log are required.
type ProxyConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// BackendCommand is a command that runs [ServeBackend] and first prints where
	// it listens. ProxyCommand gives one that runs a proxy. Both end when their
	// standard input does.
	BackendCommand []string
	ProxyCommand   func(name, listen string, flags ...string) []string
	// Env is added to the environment of both.
	Env []string
	// Loads are names of [ProxyLoads]. Default all.
	Loads []string
	// InFlight is how many connections small responses are asked for on. Default 64.
	InFlight int
	// Sockets is how many WebSockets are open. Default 1000.
	Sockets int
	// Procs is GOMAXPROCS of backend and proxy and how many workers nginx has; 0:
	// as many as the machine has cores.
	Procs int
	// Duration of each load through each of the three. Default 5 s.
	Duration time.Duration
	// Turns is how often the three take turns, which last Duration together. Default 5.
	Turns int
	// wrk makes the requests; "": the bench itself does.
	wrk string
	// Progress is told what is being measured.
	Progress func(what string)
	Log      *slog.Logger
}

// downloads is how many downloads are under way at once.
const downloads = 8

type proxyLoad struct {
	name, title, unit string
	path              string // "" for WebSockets
	connections       func(c *ProxyConfig) int
}

var proxyLoads = []proxyLoad{
	{"request", "one small response at a time", "requests", smallPath, func(*ProxyConfig) int { return 1 }},
	{"small", "small responses", "requests", smallPath, func(c *ProxyConfig) int { return c.InFlight }},
	{"download", "1 MiB downloads", "MiB", downloadPath, func(*ProxyConfig) int { return downloads }},
	{"message", "one WebSocket message at a time", "messages", "", func(*ProxyConfig) int { return 1 }},
	{"sockets", "WebSocket messages", "messages", "", func(c *ProxyConfig) int { return c.Sockets }},
}

// memoryLoad is idle WebSockets.
const memoryLoad = "memory"

// ProxyLoads names what can be measured.
func ProxyLoads() []string {
	names := []string{memoryLoad, revokeLoad}
	for _, l := range proxyLoads {
		names = append(names, l.name)
	}
	return names
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *ProxyConfig) Validate() error {
	if c.InFlight == 0 {
		c.InFlight = 64
	}
	if c.Sockets == 0 {
		c.Sockets = 1000
	}
	if c.Duration == 0 {
		c.Duration = 5 * time.Second
	}
	if c.Turns == 0 {
		c.Turns = 5
	}
	if len(c.Loads) == 0 {
		c.Loads = ProxyLoads()
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	for _, name := range c.Loads {
		if !slices.Contains(ProxyLoads(), name) {
			return fmt.Errorf("loads must be of %s, not %q", strings.Join(ProxyLoads(), ", "), name)
		}
	}
	switch {
	case c.InFlight < 1 || c.InFlight > 4096:
		return errors.New("concurrency must be 1 to 4096")
	case c.Sockets < 1 || c.Sockets > 10000:
		return errors.New("sockets must be 1 to 10000")
	case c.Procs < 0 || c.Procs > 1024:
		return errors.New("procs must be 0 to 1024")
	case c.Turns < 1 || c.Turns > 1000:
		return errors.New("turns must be 1 to 1000")
	case c.Duration < 10*time.Millisecond || c.Duration > 10*time.Minute:
		return errors.New("duration must be 10ms to 10m")
	}
	return nil
}

// ProxyFigures are what one load came to on one way to the backend.
type ProxyFigures struct {
	Load        string `json:"load"`
	Title       string `json:"title"`
	Via         string `json:"via"`
	Connections int    `json:"connections"`
	// Unit is of what Rate counts: requests, MiB or messages.
	Unit string  `json:"unit"`
	Rate float64 `json:"rate_per_second"`
	// Latencies in milliseconds, and how much they are above those of the direct way.
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	AddedP50 float64 `json:"added_p50_ms"`
	AddedP99 float64 `json:"added_p99_ms"`
	// OfNginx is the median of the turns' ratios of the rates, Low and High are quartiles; 0 without nginx.
	OfNginx float64 `json:"of_nginx,omitempty"`
	Low     float64 `json:"of_nginx_low,omitempty"`
	High    float64 `json:"of_nginx_high,omitempty"`
	// CPU is the time that the proxy's process spent for one request, MiB or
	// message, in microseconds; 0 where it cannot be told.
	CPU    float64 `json:"proxy_cpu_us,omitempty"`
	Count  int     `json:"count"`
	Failed int     `json:"failed"`
	Error  string  `json:"error,omitempty"` // the first one
}

// SocketMemory is what WebSockets cost a proxy that have been used once and are idle.
type SocketMemory struct {
	Via     string `json:"via"`
	Sockets int    `json:"sockets"`
	// Bytes is by how much the resident memory of the proxy's process grew for each.
	Bytes int64 `json:"bytes_per_socket"`
}

// ProxyResult is what was measured.
type ProxyResult struct {
	Loads  []ProxyFigures `json:"loads"`
	Memory []SocketMemory `json:"memory,omitempty"`
	// Revocations is nil if they were not to be measured.
	Revocations *Revocations `json:"revocations,omitempty"`
	// Without says why there is no nginx in it; "" when there is.
	Without string `json:"without,omitempty"`
	// WithoutWrk says why requests are made by the bench itself; "" when wrk makes them.
	WithoutWrk string `json:"without_wrk,omitempty"`
}

// Proxy measures the data path of a running stack, with a proxy of its own.
func Proxy(ctx context.Context, cfg ProxyConfig) (*ProxyResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "jetway-bench-proxy-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for nginx: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	host := cluster(run)
	if cfg.Procs > 0 {
		cfg.Env = append(cfg.Env, "GOMAXPROCS="+strconv.Itoa(cfg.Procs))
	}

	backend, direct, err := startBackend(ctx, &cfg, host)
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	stopDrone, err := startDrone(ctx, cfg.Dial, cfg.Log, "dr-bench-"+run, host, time.Minute)
	if err != nil {
		return nil, err
	}
	defer stopDrone()

	r := new(ProxyResult)
	cfg.wrk, r.WithoutWrk = findWrk(cfg.turn(), cfg.Turns)
	ways := []target{direct}
	nginx, through, err := startNginx(ctx, dir, cfg.Procs, direct.address, host)
	switch {
	case err == nil:
		defer nginx.stop()
		ways = append(ways, through)
	case errors.Is(err, ErrNoNginx):
		r.Without = err.Error()
	default:
		return nil, err
	}
	px, through, err := startProxy(ctx, &cfg, nc, "px-bench-"+run, direct)
	if err != nil {
		return nil, err
	}
	defer px.stop()
	ways = append(ways, through)

	if slices.Contains(cfg.Loads, memoryLoad) {
		cfg.Progress("memory of idle WebSockets")
		for _, t := range ways[1:] {
			m, err := socketMemory(ctx, &t, cfg.Sockets, min(settle, cfg.Duration))
			if err != nil {
				return nil, err
			}
			r.Memory = append(r.Memory, m)
		}
		m, err := secureMemory(ctx, &cfg, nc, dir, "px-bench-tls-"+run, direct)
		if err != nil {
			return nil, err
		}
		r.Memory = append(r.Memory, m)
	}
	if slices.Contains(cfg.Loads, revokeLoad) {
		cfg.Progress("revocations")
		if r.Revocations, err = revoke(ctx, nc, direct, through); err != nil {
			return nil, err
		}
	}
	for _, l := range proxyLoads {
		if !slices.Contains(cfg.Loads, l.name) {
			continue
		}
		cfg.Progress(l.title)
		figures, err := measure(ctx, &cfg, l, ways)
		if err != nil {
			return nil, err
		}
		r.Loads = append(r.Loads, figures...)
	}
	return r, ctx.Err()
}

// startBackend runs the backend.
func startBackend(ctx context.Context, cfg *ProxyConfig, host string) (*process, target, error) {
	said := &firstLine{line: make(chan string, 1)}
	line := said.line
	p, err := start("the backend", cfg.BackendCommand, cfg.Env, said)
	if err != nil {
		return nil, target{}, err
	}
	select {
	case address := <-line:
		t := target{name: ViaDirect, address: address, host: host}
		if err = p.answers(ctx, t); err == nil {
			return p, t, nil
		}
	case <-p.ended:
		err = p.failed()
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.stop()
	return nil, target{}, err
}

// startProxy runs a proxy and makes the backend known to it, under a token.
func startProxy(ctx context.Context, cfg *ProxyConfig, nc *nats.Conn, name string, direct target, flags ...string) (*process, target, error) {
	var none target
	resp, err := jetwayclient.Request[messages.ConnectResponse](ctx, nc, messages.SubjectConnect, messages.ConnectRequest{
		SpawnConfig: &messages.SpawnConfig{Cluster: direct.host, Executable: fake.Script{Address: direct.address}.Executable()},
	})
	if err != nil {
		return nil, none, fmt.Errorf("make the backend known: %w", err)
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, none, err
	}
	p, err := start("the proxy", cfg.ProxyCommand(name, listen, flags...), cfg.Env, nil)
	if err != nil {
		return nil, none, err
	}
	t := target{name: ViaJetway, address: listen, host: direct.host, prefix: "/" + resp.Token, secure: len(flags) > 0, process: p}
	if t.secure {
		t.name = ViaSecure
	}
	if err := p.answers(ctx, t); err != nil {
		p.stop()
		return nil, none, err
	}
	return p, t, nil
}

// turn is how long one takes.
func (c *ProxyConfig) turn() time.Duration { return c.Duration / time.Duration(c.Turns) }

// measure takes one load on all ways, in turns. Who comes first changes, so that what else the machine does, and what the one
// before has left it to do, meets all of them.
func measure(ctx context.Context, cfg *ProxyConfig, l proxyLoad, ways []target) ([]ProxyFigures, error) {
	samples, wrks := make([]sample, len(ways)), make([][]wrkRound, len(ways))
	cpus, rates := make([]time.Duration, len(ways)), make([][]float64, len(ways))
	for turn := range cfg.Turns {
		for i := range ways {
			if turn%2 == 1 {
				i = len(ways) - 1 - i
			}
			t := &ways[i]
			if cfg.wrk != "" && l.path != "" {
				one, cpu, err := l.wrkRound(ctx, cfg, t)
				if err != nil {
					return nil, err
				}
				wrks[i] = append(wrks[i], one)
				rates[i] = append(rates[i], float64(one.count)/one.elapsed.Seconds())
				cpus[i] += cpu
				continue
			}
			took, cpu, err := l.round(ctx, cfg, t)
			if err != nil {
				return nil, err
			}
			samples[i].add(took)
			rates[i] = append(rates[i], float64(len(took.took))/took.elapsed.Seconds())
			cpus[i] += cpu
		}
	}
	all := make([]ProxyFigures, len(ways))
	for i, s := range samples {
		f := figures("", s.took, s.elapsed, 1)
		if len(wrks[i]) > 0 {
			var trouble string
			if f, s.failed, trouble = wrkFigures(wrks[i]); trouble != "" {
				s.err = errors.New(trouble)
			}
		}
		all[i] = ProxyFigures{
			Load: l.name, Title: l.title, Via: ways[i].name, Connections: l.connections(cfg), Unit: l.unit,
			Rate: f.Rate, P50: f.P50, P99: f.P99, AddedP50: f.P50 - all[0].P50, AddedP99: f.P99 - all[0].P99,
			Count: f.Count, Failed: s.failed,
		}
		if s.err != nil {
			all[i].Error = s.err.Error()
		}
		if f.Count > 0 {
			all[i].CPU = float64(cpus[i].Microseconds()) / float64(f.Count)
		}
	}
	all[0].AddedP50, all[0].AddedP99 = 0, 0
	for i := range all {
		if nginx := slices.IndexFunc(all, func(f ProxyFigures) bool { return f.Via == ViaNginx }); nginx >= 0 {
			turns := compare(l.name, l.unit, rates[i], rates[nginx])
			all[i].OfNginx, all[i].Low, all[i].High = turns.Ratio, turns.Low, turns.High
		}
	}
	return all, nil
}

// round takes the load on one way for one turn.
func (l *proxyLoad) round(ctx context.Context, cfg *ProxyConfig, t *target) (took sample, cpu time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls, done, err := l.prepare(ctx, cfg, t)
	if err != nil {
		return took, 0, err
	}
	defer done()
	before, err := t.cpu()
	if err != nil {
		return took, 0, err
	}
	took = take(ctx, l.connections(cfg), cfg.turn(), calls)
	after, err := t.cpu()
	if t.process != nil {
		select {
		case <-t.process.ended:
			return took, 0, t.process.failed()
		default:
		}
	}
	return took, after - before, err
}

// wrkRound is round, by wrk.
func (l *proxyLoad) wrkRound(ctx context.Context, cfg *ProxyConfig, t *target) (one wrkRound, cpu time.Duration, err error) {
	before, err := t.cpu()
	if err != nil {
		return one, 0, err
	}
	if one, err = runWrk(ctx, cfg.wrk, t, l.path, l.connections(cfg), cfg.turn()); err != nil {
		return one, 0, err
	}
	after, err := t.cpu()
	return one, after - before, err
}

// cpu is what the proxy has used so far.
func (t *target) cpu() (time.Duration, error) {
	if t.process == nil {
		return 0, nil
	}
	u, err := t.process.usage()
	return u.cpu, err
}

// prepare opens the connections of a round: calls uses one of them, done closes them.
func (l *proxyLoad) prepare(ctx context.Context, cfg *ProxyConfig, t *target) (calls func(ctx context.Context, n int) error, done func(), err error) {
	count, timeout := l.connections(cfg), cfg.Duration+ioTimeout
	if l.path == "" {
		s, err := openSockets(ctx, t, count, timeout)
		if err != nil {
			return nil, nil, err
		}
		return func(_ context.Context, n int) error { return s.all[n%count].echo() }, s.close, nil
	}
	conns := make([]*httpConn, count)
	done = func() {
		for _, c := range conns {
			if c != nil {
				c.close()
			}
		}
	}
	for i := range conns {
		conns[i] = &httpConn{target: *t, path: l.path}
		if err := conns[i].open(ctx, timeout); err != nil {
			done()
			return nil, nil, fmt.Errorf("connect %s: %w", t.name, err)
		}
	}
	return func(ctx context.Context, n int) error { return conns[n%count].do(ctx) }, done, nil
}
