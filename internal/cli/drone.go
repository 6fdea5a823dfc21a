package cli

import (
	"errors"
	"net/netip"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/messages"
)

// droneCmd is `jetway drone`.
type droneCmd struct {
	natsFlags      `group:"NATS server:"`
	Name           string        `default:"${drone_name}" help:"Name of this drone (dr-…); no other may have it."`
	Cluster        string        `required:"" placeholder:"HOST[:PORT]" help:"Cluster: where browsers reach the proxies in front of this drone."`
	Pool           string        `placeholder:"NAME" help:"Pool that this drone is in."`
	Runtime        string        `enum:"process,docker,fake" default:"process" help:"What runs backends: ${enum}. fake runs nothing, for measuring."`
	IP             string        `name:"ip" default:"127.0.0.1" help:"Address of this machine on which backends listen, and proxies reach them. Default: ${default}."`
	ProcessRoot    string        `type:"path" placeholder:"DIR" help:"Directory of the executables that the process runtime may run."`
	MaxBackends    int           `placeholder:"N" help:"Most backends at once. Default: no limit."`
	Grace          time.Duration `default:"10s" help:"How long a backend that is asked to end may take before it is killed."`
	StartupTimeout time.Duration `default:"5m" help:"How long a backend may take until it is ready."`
	dockerFlags    `group:"Docker runtime:"`
	traceFlags
}

// Run is a drone until the command is stopped.
func (c *droneCmd) Run(r *run) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	tracer, err := c.open(r, "drone", c.Name)
	if err != nil {
		return err
	}
	defer tracer.Close()
	var rt runtime.Runtime = fake.New()
	switch c.Runtime {
	case "process":
		if rt, err = process.New(process.Config{Root: c.ProcessRoot, Host: c.IP}); err != nil {
			return badFlag("--process-root", err)
		}
	case "docker":
		if rt, err = c.docker(r, c); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	nc, err := c.connect(r, c.Name, c.Name, nil)
	if err != nil {
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	return stopped(r, drone.Run(r.ctx, drone.Config{
		Name:           c.Name,
		Cluster:        c.Cluster,
		Pool:           c.Pool,
		MaxBackends:    c.MaxBackends,
		Grace:          c.Grace,
		StartupTimeout: c.StartupTimeout,
		RuntimeName:    c.Runtime,
		Version:        version(),
		Tracer:         tracer,
		Log:            r.log,
	}, nc, rt))
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
	case c.MaxBackends < 0 || c.MaxBackends > 1e9:
		return usagef("--max-backends: must be 0 (no limit) to 1000000000, not %d", c.MaxBackends)
	case c.Grace < 0:
		return usagef("--grace: must not be negative")
	case c.Grace > messages.MaxGrace:
		return usagef("--grace: must be at most %s", messages.MaxGrace)
	case c.StartupTimeout <= 0:
		return usagef("--startup-timeout: must be more than 0")
	}
	return nil
}
