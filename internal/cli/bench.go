package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bench"
	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/lease"
)

// benchCmd is `jetway bench`.
type benchCmd struct {
	Connect benchConnectCmd `cmd:"" help:"Measure joins and spawns of a running stack beside what its NATS and its Postgres can do."`
	Proxy   benchProxyCmd   `cmd:"" help:"Measure requests and WebSockets through a proxy of a running stack beside nginx and no proxy."`
	Gateway benchGatewayCmd `cmd:"" help:"Measure joins through a gateway of a running stack beside the same ones over NATS, in turns of one run."`
	Start   benchStartCmd   `cmd:"" help:"Measure how long backends of a running stack take to be ready, beside the bare program and docker run."`
	Sleep   benchSleepCmd   `cmd:"" help:"Measure how long a visitor of a sleeping backend waits, and what sleeping backends cost, with a stack of its own."`

	Heartbeat benchHeartbeatCmd `cmd:"" help:"Measure what the heartbeats of drones with many backends cost a running stack that has nothing else to do."`
	Beside    benchBesideCmd    `cmd:"" help:"Measure this build beside another one, in alternating turns of one run."`

	// What `jetway bench proxy` and `jetway bench start` run as processes of their own.
	Backend      benchBackendCmd      `cmd:"" hidden:"" help:"Be the backend of jetway bench proxy until standard input ends."`
	ProxyProcess benchProxyProcessCmd `cmd:"" hidden:"" help:"Be the proxy of jetway bench proxy until standard input ends."`
	DroneProcess benchDroneProcessCmd `cmd:"" hidden:"" help:"Be a drone of jetway bench start until standard input ends."`
}

// benchConnectCmd is `jetway bench connect`.
type benchConnectCmd struct {
	natsFlags   `group:"NATS server:"`
	Postgres    string        `placeholder:"DSN" help:"The stack's Postgres database, for the ceiling of bare rows."`
	Dev         bool          `help:"Start a stack of its own for the run, with its data in a temporary directory."`
	Concurrency int           `default:"128" help:"Requests of each load under way at once: two full batches unless told otherwise. C1 is measured with 64, whatever this is."`
	Duration    time.Duration `default:"5s" help:"How long each load lasts."`
	Keys        int           `default:"1000" help:"Backends that the joins are spread over."`
	JSON        bool          `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchConnectCmd) Run(r *run) error {
	cfg := bench.ConnectConfig{
		InFlight: c.Concurrency, Duration: c.Duration, Keys: c.Keys, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	var done func()
	var err error
	if cfg.Dial, cfg.DSN, done, err = r.benchDatabase(&c.natsFlags, c.Postgres, c.Dev); err != nil {
		return stopped(r, err)
	}
	defer done()
	result, err := bench.Connect(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	return r.printBench(result, c.JSON)
}

// benchDatabase is the stack that is measured by this process, with its database: the running
// one that the flags name, or with own a new one, until done is called.
func (r *run) benchDatabase(flags *natsFlags, dsn string, own bool) (dial func(name string) (*nats.Conn, error), postgres string, done func(), err error) {
	if own {
		stack, remove, err := r.benchStack()
		if err != nil {
			return nil, "", nil, err
		}
		return func(name string) (*nats.Conn, error) { return stack.Dial(r.ctx, name) }, stack.PostgresDSN, remove, nil
	}
	if dsn == "" {
		return nil, "", nil, usagef("--postgres: the stack's database is needed too; or --dev for a stack of its own")
	}
	if _, err := pgconn.ParseConfig(dsn); err != nil {
		return nil, "", nil, usagef("--postgres: %v", err)
	}
	return func(name string) (*nats.Conn, error) { return flags.connect(r, name, "operator", nil) }, dsn, func() {}, nil
}

// benchTarget is the stack that is measured by processes of their own: the running one that
// the flags name, or with own a new one, until done is called. It gives how to connect to it,
// and the environment from which the processes know it.
func (r *run) benchTarget(flags *natsFlags, own bool) (dial func(name string) (*nats.Conn, error), env []string, done func(), err error) {
	if !own {
		return func(name string) (*nats.Conn, error) { return flags.connect(r, name, "operator", nil) }, flags.environ(), func() {}, nil
	}
	stack, remove, err := r.benchStack()
	if err != nil {
		return nil, nil, nil, err
	}
	env = (&natsFlags{NATS: stack.NATSURL}).environ()
	return func(name string) (*nats.Conn, error) { return stack.Dial(r.ctx, name) }, env, remove, nil
}

// benchStack runs a stack without a demo on free ports until remove is called.
func (r *run) benchStack() (stack *dev.Stack, remove func(), err error) {
	data, err := os.MkdirTemp("", "jetway-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a directory for the stack: %w", err)
	}
	if err := os.Chmod(data, 0o755); err != nil {
		return nil, nil, err
	}
	stack, err = dev.Start(r.ctx, dev.Config{
		Data: filepath.Join(data, "data"), Runtime: dev.RuntimeFake, Version: version(), Log: r.log, Terms: lease.DefaultTerms,
		Progress: func(line string) { r.notef("%s", line) },
	})
	if err != nil {
		_ = os.RemoveAll(data)
		return nil, nil, err
	}
	return stack, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.bound(20*time.Second))
		defer cancel()
		if err := stack.Stop(ctx); err != nil {
			r.notef("%v", err)
		}
		_ = os.RemoveAll(data)
	}, nil
}

// printBench prints the figures; that something failed is an error.
func (r *run) printBench(result *bench.ConnectResult, asJSON bool) error {
	var failed error
	var rows [][]string
	ratio := func(f float64) string {
		if f == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f", f)
	}
	for _, f := range result.All() {
		rows = append(rows, []string{
			f.Name, fmt.Sprintf("%.0f", f.Rate), fmt.Sprintf("%.2f", f.P50), fmt.Sprintf("%.2f", f.P99),
			ratio(f.OfC1), ratio(f.OfC2), fmt.Sprint(f.Failed),
		})
		if f.Failed > 0 {
			failed = errors.Join(failed, fmt.Errorf("%s: %d of %d failed: %s", f.Name, f.Failed, f.Failed+f.Count, f.Error))
		}
	}
	if asJSON {
		r.printJSON(result)
	} else {
		r.table([]string{"LOAD", "PER SECOND", "P50 MS", "P99 MS", "OF C1", "OF C2", "FAILED"}, rows)
	}
	return failed
}
