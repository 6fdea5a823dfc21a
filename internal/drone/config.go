package drone

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
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
	// MaxBackends is how many backends it takes at a time; 0: no limit.
	MaxBackends int
	// Version and RuntimeName are shown to people who list drones.
	Version, RuntimeName string
	// Grace lies between soft and hard termination; 10 s by default, messages.MaxGrace at most.
	Grace time.Duration
	// StartupTimeout is how long a backend may take from its spawn until it is
	// ready; 5 min by default.
	StartupTimeout time.Duration
	// ShutdownTimeout bounds the time that Run takes to return once its context
	// has ended; Grace and 5 s by default. Grace is cut to two thirds of it then.
	ShutdownTimeout time.Duration
	// Clock is the time that leases are judged by; boottime.Now by default.
	Clock boottime.Clock
	// OnReady is called, if set, when the drone has registered, its actions are
	// consumed and a worker has heard that it takes spawns. Once; it must not wait
	// for anything: the heartbeats wait for it.
	OnReady func()
	// Tracer makes spans of starts that continue the trace of their action; nil: none.
	Tracer *tracing.Tracer
	// Log is silent by default.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.StartupTimeout == 0 {
		c.StartupTimeout = 5 * time.Minute
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = c.Grace + 5*time.Second
	}
	if c.Clock == nil {
		c.Clock = boottime.Now
	}
	if c.OnReady == nil {
		c.OnReady = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
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
	if c.MaxBackends < 0 {
		return errors.New("drone's most backends: must not be negative; 0 means no limit")
	}
	if c.Grace < 0 || c.StartupTimeout < 0 || c.ShutdownTimeout < 0 {
		return errors.New("drone's grace and timeouts: must not be negative")
	}
	if c.Grace > messages.MaxGrace {
		return fmt.Errorf("drone's grace: must be at most %s", messages.MaxGrace)
	}
	return nil
}
