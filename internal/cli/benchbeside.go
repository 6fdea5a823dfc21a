package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/jetway-project/jetway/internal/bench"
)

// benchHeartbeatCmd is `jetway bench heartbeat`.
type benchHeartbeatCmd struct {
	natsFlags `group:"NATS server:"`
	Postgres  string        `placeholder:"DSN" help:"The stack's Postgres database. What its processes use is seen where they run on this machine; what workers use, with --dev only."`
	Dev       bool          `help:"Start a stack of its own for the run, with its data in a temporary directory."`
	LeaseTTL  time.Duration `name:"lease-ttl" default:"60s" help:"Of --dev: the time to live of leases. Drones heartbeat six times in it."`
	beats
	JSON bool `name:"json" help:"Print JSON."`
}

// beats are the heartbeats that are measured.
type beats struct {
	Drones   int           `default:"1" help:"How many drones there are."`
	Backends int           `default:"${max_backends}" help:"How many backends each of them holds."`
	Window   time.Duration `default:"1m" help:"How long heartbeats are measured. In 10 minutes each drone has what it holds compared once."`
	For      time.Duration `name:"for" default:"1m" help:"How long a database snapshot is held before heartbeats are measured under it; 0s: none is."`
}

// Run measures and prints.
func (c *benchHeartbeatCmd) Run(r *run) error {
	cfg := bench.HeartbeatConfig{
		Drones: c.Drones, Backends: c.Backends, Window: c.Window, For: c.For, LeaseTTL: c.LeaseTTL, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	if c.LeaseTTL < minLeaseTTL || c.LeaseTTL > time.Hour {
		return usagef("--lease-ttl: must be %s to 1h", minLeaseTTL)
	}
	var err error
	if c.Dev {
		if cfg.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
	} else {
		var done func()
		if cfg.Dial, cfg.DSN, done, err = r.benchDatabase(&c.natsFlags, c.Postgres, false); err != nil {
			return err
		}
		defer done()
	}
	result, err := bench.Heartbeat(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	if c.JSON {
		r.printJSON(result)
		return nil
	}
	var rows [][]string
	known := func(format string, v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, f := range result.All() {
		rows = append(rows, []string{
			f.Name, fmt.Sprintf("%.0f", f.Seconds), fmt.Sprint(f.Count), fmt.Sprint(f.Compared),
			known("%.0f", f.Bytes), known("%.2f", f.Postgres), known("%.2f", f.Worker), known("%.2f", f.Bare), known("%.2f", f.Core),
		})
	}
	r.table([]string{"OF EACH", "SECONDS", "COUNT", "COMPARED", "BYTES", "POSTGRES MS", "WORKER MS", "SELECT 1 MS", "% OF A CORE"}, rows)
	return nil
}

// benchBesideCmd is `jetway bench beside`.
type benchBesideCmd struct {
	Other    string        `required:"" type:"path" placeholder:"FILE" help:"The other build of jetway."`
	Turns    int           `default:"15" help:"How often the two take turns; 0 for heartbeats alone."`
	Duration time.Duration `default:"1s" help:"How long each load lasts in each turn."`
	beats
	NoHeartbeats bool `help:"Leave heartbeats out."`
	JSON         bool `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchBesideCmd) Run(r *run) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg := bench.BesideConfig{
		This: program, Other: c.Other, Turns: c.Turns, Duration: c.Duration, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
	}
	if !c.NoHeartbeats {
		cfg.Heartbeats = &bench.HeartbeatConfig{Drones: c.Drones, Backends: c.Backends, Window: c.Window, For: c.For}
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	result, err := bench.MeasureBeside(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	if c.JSON {
		r.printJSON(result)
		return nil
	}
	var rows [][]string
	for _, f := range result {
		rows = append(rows, []string{
			f.Name, f.Unit, fmt.Sprintf("%.2f", f.This), fmt.Sprintf("%.2f", f.Other),
			fmt.Sprintf("%.3f", f.Ratio), fmt.Sprintf("%.3f to %.3f", f.Low, f.High), fmt.Sprint(f.Turns),
		})
	}
	r.table([]string{"WHAT", "UNIT", "THIS", "OTHER", "RATIO", "HALF OF THE TURNS", "TURNS"}, rows)
	return nil
}
