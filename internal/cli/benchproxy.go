package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/jetway-project/jetway/internal/bench"
)

// benchProxyCmd is `jetway bench proxy`.
type benchProxyCmd struct {
	natsFlags   `group:"NATS server:"`
	Dev         bool          `help:"Start a stack of its own for the run, with its data in a temporary directory."`
	Loads       []string      `placeholder:"NAME,…" help:"What to measure: memory, revoke, request, small, download, message, sockets. Default: all."`
	Concurrency int           `default:"64" help:"Connections on which small responses are asked for."`
	Sockets     int           `default:"1000" help:"WebSockets open at once."`
	Procs       int           `placeholder:"N" help:"GOMAXPROCS of backend and proxy, and workers of nginx. Default: one for each core."`
	Duration    time.Duration `default:"5s" help:"How long each load lasts, directly, through nginx and through the proxy each."`
	Turns       int           `default:"5" help:"How often the three take turns, which last --duration together. A ratio to nginx is the median of the turns'."`
	CPUProfile  string        `name:"cpu-profile" type:"path" placeholder:"FILE" help:"Write where the proxy spends its time there, for go tool pprof."`
	HeapProfile string        `type:"path" placeholder:"FILE" help:"Write what the proxy has allocated there, at its end."`
	JSON        bool          `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchProxyCmd) Run(r *run) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg := bench.ProxyConfig{
		BackendCommand: []string{program, "bench", "backend"},
		ProxyCommand: func(name, listen string, flags ...string) []string {
			return append([]string{
				program, "--log-level=warn", "bench", "proxy-process", "--name=" + name, "--listen=" + listen, "--drain-delay=0s",
				"--cpu-profile=" + c.CPUProfile, "--heap-profile=" + c.HeapProfile,
			}, flags...)
		},
		Loads: c.Loads, InFlight: c.Concurrency, Sockets: c.Sockets, Procs: c.Procs, Duration: c.Duration, Turns: c.Turns, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	var done func()
	if cfg.Dial, cfg.Env, done, err = r.benchTarget(&c.natsFlags, c.Dev); err != nil {
		return stopped(r, err)
	}
	defer done()
	result, err := bench.Proxy(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	return r.printProxyBench(result, c.JSON)
}

// printProxyBench prints the figures; that something failed is an error.
func (r *run) printProxyBench(result *bench.ProxyResult, asJSON bool) error {
	if result.Without != "" {
		r.notef("%s", result.Without)
	}
	if result.WithoutWrk != "" {
		r.notef("%s", result.WithoutWrk)
	}
	var failed error
	var rows [][]string
	for _, f := range result.Loads {
		row := []string{
			fmt.Sprintf("%s, %d at once", f.Title, f.Connections), f.Via, fmt.Sprintf("%.0f %s", f.Rate, f.Unit),
			fmt.Sprintf("%.3f", f.P50), fmt.Sprintf("%.3f", f.P99), "", "", "", "", fmt.Sprint(f.Failed),
		}
		if f.Via != bench.ViaDirect {
			row[5], row[6] = fmt.Sprintf("%+.3f", f.AddedP50), fmt.Sprintf("%+.3f", f.AddedP99)
		}
		if f.OfNginx != 0 {
			row[7] = fmt.Sprintf("%.2f (%.2f to %.2f)", f.OfNginx, f.Low, f.High)
		}
		if f.CPU != 0 {
			row[8] = fmt.Sprintf("%.1f", f.CPU)
		}
		rows = append(rows, row)
		if f.Failed > 0 {
			failed = errors.Join(failed, fmt.Errorf("%s, %s: %d of %d failed: %s", f.Title, f.Via, f.Failed, f.Failed+f.Count, f.Error))
		}
	}
	if asJSON {
		r.printJSON(result)
		return failed
	}
	if len(rows) > 0 {
		r.table([]string{"LOAD", "VIA", "PER SECOND", "P50 MS", "P99 MS", "ADDED P50", "ADDED P99", "OF NGINX", "CPU US", "FAILED"}, rows)
	}
	for _, m := range result.Memory {
		r.printf("memory for each of %d idle WebSockets, %s: %.1f KiB\n", m.Sockets, m.Via, float64(m.Bytes)/1024)
	}
	if v := result.Revocations; v != nil {
		r.printf("from a revocation to the end of a WebSocket that is open with the token: %.1f ms p50, %.1f ms p99\n", v.P50, v.P99)
	}
	return failed
}

// benchBackendCmd is `jetway bench backend`.
type benchBackendCmd struct{}

// Run serves until the bench ends.
func (c *benchBackendCmd) Run(r *run) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer r.endWithInput()()
	r.printf("%s\n", listener.Addr())
	return bench.ServeBackend(r.ctx, listener)
}

// benchProxyProcessCmd is `jetway bench proxy-process`: `jetway proxy`, observed.
type benchProxyProcessCmd struct {
	proxyCmd
	CPUProfile  string `name:"cpu-profile" help:"As of jetway bench proxy."`
	HeapProfile string `help:"As of jetway bench proxy."`
}

// Run is a proxy until the bench ends.
func (c *benchProxyProcessCmd) Run(r *run) (err error) {
	defer r.endWithInput()()
	if c.CPUProfile != "" {
		file, err := os.Create(c.CPUProfile)
		if err != nil {
			return usagef("--cpu-profile: %v", err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("profile the proxy: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	if c.HeapProfile != "" {
		defer func() { err = errors.Join(err, writeHeap(c.HeapProfile)) }()
	}
	return c.proxyCmd.Run(r)
}

func writeHeap(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return usagef("--heap-profile: %v", err)
	}
	defer file.Close()
	runtime.GC() // so that all of it is counted
	return pprof.Lookup("allocs").WriteTo(file, 0)
}

// endWithInput ends the command when standard input ends: its parent has gone then,
// however it went. Call what it gives at the end.
func (r *run) endWithInput() func() {
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return cancel
}
