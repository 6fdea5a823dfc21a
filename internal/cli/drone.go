package cli

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
)

// droneCmd is `jetway drone`.
type droneCmd struct {
	natsFlags      `group:"NATS server:"`
	Name           string        `default:"${drone_name}" help:"Name of this drone (dr-…); no other may have it."`
	Cluster        string        `required:"" placeholder:"HOST[:PORT]" help:"Cluster: where browsers reach the proxies in front of this drone."`
	Pool           string        `placeholder:"NAME" help:"Pool that this drone is in."`
	DataDir        string        `type:"path" placeholder:"DIR" help:"Directory for what outlives the agent, of this drone alone. Default: /var/lib/jetway/NAME as root, else $XDG_STATE_HOME/jetway/NAME."`
	Runtime        string        `enum:"process,docker,socket,fake" default:"process" help:"Runtime of backends: ${enum}. socket is a server of your own; fake runs nothing, for measuring."`
	IP             string        `name:"ip" default:"127.0.0.1" help:"Address of this machine on which backends listen and proxies reach them. Default: ${default}."`
	Grace          time.Duration `default:"10s" help:"Time between SIGTERM and SIGKILL for a backend that is to end."`
	StartupTimeout time.Duration `default:"5m" help:"Time for each part of a backend's start: fetching, starting, and answering HTTP. A backend that takes longer is ended."`
	Guard          string        `enum:"self,unit" default:"self" help:"Who starts the guard, which ends backends past their leases while the agent is gone: self (this command) or unit (a service of its own, jetway guard; without one no backends are taken). Default: ${default}."`
	DrainOnExit    bool          `help:"On SIGTERM, drain: take no new backends and wait until the last has ended; a second signal ends them. Default: leave backends running, for the next run of the agent to take over."`
	DrainTimeout   time.Duration `placeholder:"DURATION" help:"With --drain-on-exit: end the backends that are left after this time. Default: wait for ever."`
	capacityFlags
	processFlags `group:"Process runtime:"`
	dockerFlags  `group:"Docker runtime:"`
	socketFlags  `group:"Socket runtime:"`
	metricsFlags
	traceFlags
}

// capacityFlags say what a drone takes at most.
type capacityFlags struct {
	MaxBackends int     `placeholder:"N" help:"Most backends at once, up to ${max_backends}. Default: ${max_backends}."`
	MaxMemory   string  `placeholder:"BYTES" help:"Most memory that may be promised to backends (8GiB, 500MB). Default: no limit."`
	MaxCPUs     float64 `name:"max-cpus" placeholder:"N" help:"Most processors that may be promised to backends (3.5). Default: no limit."`
}

func (c *capacityFlags) capacity() (capacity messages.Capacity, err error) {
	var bytes uint64
	if c.MaxMemory != "" {
		if bytes, err = humanize.ParseBytes(c.MaxMemory); err != nil || bytes == 0 || bytes > 1<<50 {
			return capacity, usagef("--max-memory: must be a number of bytes like 8GiB or 500MB, up to 1PiB, not %q", c.MaxMemory)
		}
	}
	millis := math.Round(c.MaxCPUs * 1000)
	switch {
	case c.MaxBackends < 0 || c.MaxBackends > messages.MaxNamed:
		return capacity, usagef("--max-backends: must be 0 (as many as can be) to %d, not %d", messages.MaxNamed, c.MaxBackends)
	case math.IsNaN(millis) || millis < 0 || millis > 1e9 || (millis == 0 && c.MaxCPUs != 0):
		return capacity, usagef("--max-cpus: must be 0 (no limit) or 0.001 to 1000000, not %v", c.MaxCPUs)
	}
	return messages.Capacity{MaxBackends: c.MaxBackends, MaxMemoryBytes: int64(bytes), MaxCPUMillis: int64(millis)}, nil
}

// gcPercent is half of Go's own default, and less than that of the other roles: little passes
// through a drone, and what it holds grows with its backends, whose memory it competes
// with.
const gcPercent = 50

// Run is a drone until the command is stopped.
func (c *droneCmd) Run(r *run) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := c.validate(); err != nil {
		return err
	}
	capacity, err := c.capacity()
	if err != nil {
		return err
	}
	dataDir, err := c.dataDir()
	if err != nil {
		return err
	}
	guard, err := c.guardCommand(dataDir)
	if err != nil {
		return err
	}
	tracer, err := c.open(r, "drone", c.Name)
	if err != nil {
		return err
	}
	defer tracer.Close()
	var rt runtime.Runtime = fake.New()
	about := c.Runtime
	switch c.Runtime {
	case "process":
		if rt, about, err = c.process(r, c, below(dataDir, "processes"), capacity); err != nil {
			return err
		}
	case "docker":
		if rt, err = c.docker(r, c, below(dataDir, "docker")); err != nil {
			return err
		}
	case "socket":
		if rt, err = c.socket(r, c, below(dataDir, "socket")); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	server, err := c.serveDrone(r)
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := c.connect(r, c.Name, c.Name, nil)
	if err != nil {
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	return stopped(r, drone.Run(r.ctx, drone.Config{
		Name:           c.Name,
		Cluster:        c.Cluster,
		Pool:           c.Pool,
		DataDir:        dataDir,
		Guard:          guard,
		Guarded:        c.Guard == "unit",
		Alive:          newSupervisor().alive,
		MachineStops:   machineStops,
		Metrics:        server.Drone(),
		Capacity:       capacity,
		Grace:          c.Grace,
		StartupTimeout: c.StartupTimeout,
		OnExit:         c.onExit(),
		DrainTimeout:   c.DrainTimeout,
		Hurry:          r.kill,
		RuntimeName:    about,
		Version:        version(),
		Tracer:         tracer,
		Log:            r.log,
	}, nc, rt))
}

func (c *droneCmd) onExit() drone.OnExit {
	if c.DrainOnExit {
		return drone.Drain
	}
	return drone.Leave
}

// guardCommand is the command of the guard, which ends backends whose lease runs out while no agent can; nil where this command does not start
// it.
func (c *droneCmd) guardCommand(dataDir string) ([]string, error) {
	if dataDir == "" || c.Guard == "unit" || goruntime.GOOS != "linux" {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to start its guard: %w", err)
	}
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return nil, err
	}
	command := []string{self, "guard", "--child", "--data-dir", dataDir, "--runtime", c.Runtime}
	if c.DockerHost != "" {
		command = append(command, "--docker-host", c.DockerHost)
	}
	if c.RuntimeSocket != "" {
		command = append(command, "--runtime-socket", c.RuntimeSocket)
	}
	return command, nil
}

// dataDir is where this drone keeps what outlives its agent. Of what the fake runtime
// runs nothing does.
func (c *droneCmd) dataDir() (string, error) {
	switch {
	case c.DataDir != "" || c.Runtime == "fake":
		return c.DataDir, nil
	case os.Geteuid() == 0:
		return filepath.Join("/var/lib/jetway", c.Name), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", usagef("--data-dir: name a directory, for there is no home directory: %v", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "jetway", c.Name), nil
}

// below gives a directory for a part of the drone, below the drone's own; "" if the drone has none.
func below(dataDir, part string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, part)
}

func (c *droneCmd) validate() error {
	if err := messages.CheckDroneName(c.Name); err != nil {
		return badFlag("--name", err)
	}
	if err := messages.CheckCluster(c.Cluster); err != nil {
		return badFlag("--cluster", err)
	}
	if err := messages.CheckPool(c.Pool); err != nil {
		return badFlag("--pool", err)
	}
	if _, err := netip.ParseAddr(c.IP); err != nil {
		return usagef("--ip: must be an IP address, not %q", c.IP)
	}
	switch {
	case c.Runtime == "process" && c.ProcessRoot == "":
		return usagef("--process-root: name the directory of the executables")
	case (c.Runtime == "socket") != (c.RuntimeSocket != ""):
		return usagef("--runtime-socket: goes with --runtime socket, and the other way round: name the socket where your runtime's server listens")
	case c.Guard == "unit" && goruntime.GOOS != "linux":
		return usagef("--guard unit: there is no guard on this system, only on Linux")
	case c.Guard == "unit" && c.Runtime == "fake" && c.DataDir == "":
		return usagef("--guard unit: goes with --data-dir, where the runtime is fake")
	case c.DrainTimeout < 0:
		return usagef("--drain-timeout: must not be negative")
	case c.DrainTimeout > 0 && !c.DrainOnExit:
		return usagef("--drain-timeout: goes with --drain-on-exit")
	case c.Grace < 0:
		return usagef("--grace: must not be negative")
	case c.Grace > messages.MaxGrace:
		return usagef("--grace: must be at most %s", messages.MaxGrace)
	case c.StartupTimeout <= 0:
		return usagef("--startup-timeout: must be more than 0")
	}
	return nil
}
