package drone

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// Config says what an agent is and how patient it is. Name and Cluster have no default.
type Config struct {
	// Name is the drone's, dr-….
	Name string
	// Cluster is the host or host:port under which its backends are reached.
	Cluster string
	// Pool is the group of drones that it belongs to; "" is the default one.
	Pool string
	// Capacity is what it takes at most: never more than messages.MaxNamed backends, which
	// is as many as it can name when it registers.
	Capacity messages.Capacity
	// DataDir is where it keeps what is to outlive a run of the agent: a journal and
	// the deadlines of leases. "": nothing does.
	DataDir string
	// Who, if not nil, is who the agent is, for one without a data directory; it is the caller's to release.
	Who *identity.Identity
	// Guard is the command (jetway guard …) that is started to end backends whose lease
	// runs out while no agent can; empty: none is. It needs a data directory.
	Guard []string
	// Guarded says that a guard stands that somebody else starts: without it nothing is taken.
	Guarded bool
	// OnExit says what becomes of the backends when Run's context ends; Leave.
	OnExit OnExit
	// DrainTimeout bounds Drain, after which the backends are ended; 0: nothing does.
	DrainTimeout time.Duration
	// Hurry, if not nil, is closed when the end takes too long for somebody: a drain is
	// cut short then, and what is being ended softly is killed.
	Hurry <-chan struct{}
	// Version and RuntimeName are shown to people who list drones.
	Version, RuntimeName string
	// Grace lies between soft and hard termination; 10 s by default, messages.MaxGrace at most.
	Grace time.Duration
	// StartupTimeout is how long a backend may be loading, and starting, and waiting
	// until it answers, each; 5 min by default.
	StartupTimeout time.Duration
	// ShutdownTimeout bounds the ending of all backends; Grace and 5 s by default.
	// Grace is cut to two thirds of it then.
	ShutdownTimeout time.Duration
	// StatsEvery is how often the use of each backend is published; 10 s by default.
	StatsEvery time.Duration
	// Clock is the time that leases are judged by; boottime.Now by default.
	Clock boottime.Clock
	// MachineStops says, when the agent is told to stop, whether the machine is being shut down: then its backends are
	// ended, whatever OnExit says. Nil: it never is.
	MachineStops func() bool
	// Metrics, if not nil, shows the drone.
	Metrics *metrics.Drone
	// OnReady is called, if set, when the drone has registered, its actions are
	// consumed and a worker has heard that it takes spawns. Once; it must not wait
	// for anything: the heartbeats wait for it.
	OnReady func()
	// Alive is called, if set, about once a second while the agent keeps its deadlines. It must
	// not wait.
	Alive func()
	// Tracer makes spans of starts that continue the trace of their action; nil: none.
	Tracer *tracing.Tracer
	// Log is silent by default.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Grace = cmp.Or(c.Grace, 10*time.Second)
	c.StartupTimeout = cmp.Or(c.StartupTimeout, 5*time.Minute)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, c.Grace+5*time.Second)
	c.StatsEvery = cmp.Or(c.StatsEvery, 10*time.Second)
	c.Capacity.MaxBackends = cmp.Or(c.Capacity.MaxBackends, messages.MaxNamed)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.OnExit = cmp.Or(c.OnExit, Leave)
	if c.Clock == nil {
		c.Clock = boottime.Now
	}
	if c.MachineStops == nil {
		c.MachineStops = func() bool { return false }
	}
	if c.OnReady == nil {
		c.OnReady = func() {}
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	return c
}

// Validate says what is wrong with c, defaults filled in. Run calls it.
func (c Config) Validate() error {
	c = c.withDefaults()
	if err := messages.CheckDroneName(c.Name); err != nil {
		return fmt.Errorf("drone's name %q: %w", c.Name, err)
	}
	if err := messages.CheckCluster(c.Cluster); err != nil {
		return fmt.Errorf("drone's cluster %q: %w", c.Cluster, err)
	}
	if err := messages.CheckPool(c.Pool); err != nil {
		return fmt.Errorf("drone's pool: %w", err)
	}
	if err := messages.CheckCapacity(c.Capacity); err != nil {
		return fmt.Errorf("drone's capacity: %w", err)
	}
	switch {
	case c.Capacity.MaxBackends > messages.MaxNamed:
		return fmt.Errorf("drone's capacity: it takes %d backends at most: as many as it can name when it registers", messages.MaxNamed)
	case (len(c.Guard) > 0 || c.Guarded) && c.DataDir == "":
		return errors.New("drone's guard: needs a data directory")
	case c.OnExit != Leave && c.OnExit != Drain && c.OnExit != End:
		return fmt.Errorf("drone's exit: must be %s, %s or %s, not %q", Leave, Drain, End, c.OnExit)
	}
	if c.Grace < 0 || c.StartupTimeout < 0 || c.ShutdownTimeout < 0 || c.DrainTimeout < 0 || c.StatsEvery < 0 {
		return errors.New("drone's grace and timeouts: must not be negative")
	}
	if c.Grace > messages.MaxGrace {
		return fmt.Errorf("drone's grace: must be at most %s", messages.MaxGrace)
	}
	return nil
}
