package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/jetway-project/jetway/internal/bench"
)

// benchStartCmd is `jetway bench start`.
type benchStartCmd struct {
	natsFlags   `group:"NATS server:"`
	Dev         bool   `help:"Start a stack of its own for the run, with its data in a temporary directory."`
	Starts      int    `default:"25" help:"How often each is started, one after another."`
	AtOnce      int    `default:"50" help:"How many spares are claimed at once in the end."`
	ProcessRoot string `type:"path" placeholder:"DIR" help:"Directory of room, which is started. Default: that of jetway itself."`
	JSON        bool   `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchStartCmd) Run(r *run) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	root := c.ProcessRoot
	if root == "" {
		root = filepath.Dir(program)
	}
	cfg := bench.StartConfig{
		DroneCommand: benchDrone(program, root),
		Root:         root, Starts: c.Starts, AtOnce: c.AtOnce,
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
	result, err := bench.Start(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	r.printStartBench(result, c.JSON)
	return nil
}

func (r *run) printStartBench(result *bench.StartResult, asJSON bool) {
	if result.Without != "" {
		r.notef("%s", result.Without)
	}
	if asJSON {
		r.printJSON(result)
		return
	}
	var rows [][]string
	for _, f := range result.Starts {
		row := []string{f.What, f.By, fmt.Sprint(f.Count), fmt.Sprintf("%.1f", f.P50), fmt.Sprintf("%.1f", f.P99), "", "", ""}
		if f.OfFloorP50 != 0 {
			row[5], row[6] = fmt.Sprintf("%.2f", f.OfFloorP50), fmt.Sprintf("%.2f", f.OfFloorP99)
		}
		for i, step := range f.Steps {
			if i > 0 {
				row[7] += ", "
			}
			row[7] += fmt.Sprintf("%s %.1f", step.Name, step.P50)
		}
		rows = append(rows, row)
	}
	r.table([]string{"START", "BY", "COUNT", "P50 MS", "P99 MS", "OF FLOOR P50", "P99", "REACHED AFTER MS (P50)"}, rows)
}

// benchDrone gives commands that run a drone until their standard input ends.
func benchDrone(program, root string) func(bench.StartDrone) []string {
	return func(d bench.StartDrone) []string {
		return []string{
			program, "--log-level=warn", "bench", "drone-process", "--name=" + d.Name, "--cluster=" + d.Cluster, "--runtime=" + d.Runtime,
			"--process-root=" + root, "--data-dir=" + d.DataDir, "--docker-host=" + d.DockerHost, "--drain-on-exit", "--drain-timeout=1s",
		}
	}
}

// benchDroneProcessCmd is `jetway bench drone-process`: `jetway drone` for the bench.
type benchDroneProcessCmd struct{ droneCmd }

// Run is a drone until the bench ends.
func (c *benchDroneProcessCmd) Run(r *run) error {
	defer r.endWithInput()()
	return c.droneCmd.Run(r)
}
