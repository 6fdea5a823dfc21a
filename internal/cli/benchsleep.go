package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/bench"
)

// benchSleepCmd is `jetway bench sleep`.
type benchSleepCmd struct {
	Visits      int           `default:"100" help:"How often a backend is visited in each way."`
	Sleepers    int           `default:"1000" help:"How many backends sleep on one drone."`
	Window      time.Duration `default:"1m" help:"How long it is measured what they cost."`
	ProcessRoot string        `type:"path" placeholder:"DIR" help:"Directory of room, which sleeps. Default: that of jetway itself."`
	JSON        bool          `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchSleepCmd) Run(r *run) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	root := c.ProcessRoot
	if root == "" {
		root = filepath.Dir(program)
	}
	cfg := bench.SleepConfig{
		Program: program, Root: root, DroneCommand: benchDrone(program, root),
		ProxyCommand: func(name, listen string) []string {
			return []string{program, "--log-level=warn", "bench", "proxy-process", "--name=" + name, "--listen=" + listen, "--drain-delay=0s"}
		},
		Environ: func(url string) []string { return (&natsFlags{NATS: url}).environ() },
		Visits:  c.Visits, Sleepers: c.Sleepers, Window: c.Window, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	result, err := bench.Sleep(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	r.printSleepBench(result, c.JSON)
	return nil
}

func (r *run) printSleepBench(result *bench.SleepResult, asJSON bool) {
	if result.Without != "" {
		r.notef("%s", result.Without)
	}
	if asJSON {
		r.printJSON(result)
		return
	}
	var rows [][]string
	for _, f := range result.Visits {
		row := []string{f.What, f.How, fmt.Sprint(f.Count), fmt.Sprintf("%.1f", f.P50), fmt.Sprintf("%.1f", f.P99), ""}
		if f.OfAwake != 0 {
			row[5] = fmt.Sprintf("%.2f", f.OfAwake)
		}
		rows = append(rows, row)
	}
	r.table([]string{"VISIT OF A", "FOUND", "COUNT", "P50 MS", "P99 MS", "OF AWAKE"}, rows)
	rows = nil
	for _, f := range result.Rest {
		rows = append(rows, []string{
			fmt.Sprint(f.Backends), f.What, fmt.Sprintf("%.2f", f.Agent), fmt.Sprintf("%.2f", f.Worker), fmt.Sprintf("%.2f", f.Programs),
			fmt.Sprintf("%.2f", f.Written), fmt.Sprintf("%.1f", f.Transactions),
		})
	}
	r.table([]string{"BACKENDS", "WHICH ARE", "AGENT % OF A CORE", "WORKER", "PROGRAMS", "ROWS WRITTEN/S", "TRANSACTIONS/S"}, rows)
}
