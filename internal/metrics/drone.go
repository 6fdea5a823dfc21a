package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const dronePrefix = "jetway_drone_"

// Drone is what one drone's agent shows. Safe for use by several goroutines.
type Drone struct {
	starts *prometheus.HistogramVec
	claims *prometheus.HistogramVec
	ends   *prometheus.CounterVec
	beats  *prometheus.CounterVec
	source atomic.Pointer[DroneSource]
}

// DroneSource is where a running drone is read. All of its functions are required.
type DroneSource struct {
	Name, Version, Cluster, Pool string
	// Now gives what is shown of this moment. It must not wait.
	Now func() DroneSnapshot
	// Alive says why the agent should be started anew; nil: it should not.
	Alive func() error
	// Ready says, in one line for people, why the drone takes no backends; nil: it does.
	Ready func(ctx context.Context) error
}

// DroneSnapshot is what was read of a drone.
type DroneSnapshot struct {
	// Backends counts what runs by status.
	Backends map[string]int
	// Memory and CPUs are what was promised to backends, in bytes and processors.
	Memory, CPUs float64
	// MaxBackends, MaxMemory and MaxCPUs are what it takes at most; 0: no limit.
	MaxBackends, MaxMemory, MaxCPUs float64
	// Asleep are backends that sleep.
	Asleep int
	// Unreported are states that no worker has taken yet.
	Unreported int
	// LeaseLeft is until when the drone may run what it runs, without another word of a worker; meaningless when it
	// runs nothing.
	LeaseLeft time.Duration
	// Connected and Reconnects are the NATS connection's.
	Connected  bool
	Reconnects uint64
}

// NewDrone makes the metrics of a drone and registers them with reg; with nil they are counted but shown to nobody. It
// panics when reg has them already.
func NewDrone(reg prometheus.Registerer) *Drone {
	d := &Drone{
		starts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: dronePrefix + "start_duration_seconds", Help: "From the taking of a spawn until the backend was ready, or had failed.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"outcome"}),
		claims: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: dronePrefix + "claim_duration_seconds", Help: "From asking a spare to be a backend until it was that backend, or had ended because it did not take the claim.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 15},
		}, []string{"outcome"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: dronePrefix + "backends_ended_total", Help: "Backends that have ended, by the reason that was reported; exited where they ended by themselves.",
		}, []string{"reason"}),
		beats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: dronePrefix + "heartbeats_total", Help: "Heartbeats, which renew the leases of all that runs, by outcome: ok or failed.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"ready", "failed"} {
		d.starts.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"ok", "failed"} {
		d.beats.WithLabelValues(outcome)
		d.claims.WithLabelValues(outcome)
	}
	for _, reason := range []string{"exited", "swept", "external", "key-expired", "lost", "startup-timeout", "start-failed", "internal-error"} {
		d.ends.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(d.starts, d.claims, d.ends, d.beats, (*droneReader)(d))
	}
	return d
}

// Started counts a start that came to an end: the backend got ready, or did not. On nil it does nothing.
func (d *Drone) Started(ready bool, took time.Duration) {
	if d == nil {
		return
	}
	outcome := "failed"
	if ready {
		outcome = "ready"
	}
	d.starts.WithLabelValues(outcome).Observe(took.Seconds())
}

// Claimed counts a claim of a spare: it is the backend now, or was ended. On nil it does nothing.
func (d *Drone) Claimed(ok bool, took time.Duration) {
	if d != nil {
		d.claims.WithLabelValues(outcomeOf(ok)).Observe(took.Seconds())
	}
}

// Ended counts a backend's end; reason is "" where it ended by itself. On nil it does nothing.
func (d *Drone) Ended(reason string) {
	if d == nil {
		return
	}
	if reason == "" {
		reason = "exited"
	}
	d.ends.WithLabelValues(reason).Inc()
}

// Beat counts a heartbeat. On nil it does nothing.
func (d *Drone) Beat(ok bool) {
	if d == nil {
		return
	}
	d.beats.WithLabelValues(outcomeOf(ok)).Inc()
}

func outcomeOf(ok bool) string {
	if ok {
		return "ok"
	}
	return "failed"
}

// Show has the drone shown from now on: its gauges and its probes. On nil it does nothing.
func (d *Drone) Show(s DroneSource) {
	if d != nil {
		d.source.Store(&s)
	}
}

func (d *Drone) probes() *probes {
	s := d.source.Load()
	if s == nil {
		return nil
	}
	return &probes{alive: s.Alive, ready: s.Ready}
}

func droneDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(dronePrefix+name, help, labels, nil)
}

var (
	descDroneInfo       = droneDesc("info", "1 for this drone.", "drone", "version", "cluster", "pool")
	descDroneReady      = droneDesc("ready", "1 while the drone takes backends, else 0.")
	descDroneBackends   = droneDesc("backends", "Backends that the drone has, by status.", "status")
	descDroneAsleep     = droneDesc("backends_asleep", "Backends that are put to sleep at this moment.")
	descDroneLoad       = droneDesc("load", "What was given away of a resource: backends, bytes of memory, processors.", "resource")
	descDroneCapacity   = droneDesc("capacity", "What the drone takes at most of a resource; not there where it has no limit.", "resource")
	descDroneUnreported = droneDesc("unreported_states", "States of backends that no worker has taken yet.")
	descDroneLease      = droneDesc("lease_left_seconds", "For how long the drone may run what it runs, without another word of a worker, before it is killed.")
	descDroneConnected  = droneDesc("nats_connected", "1 while connected to NATS, else 0.")
	descDroneReconnects = droneDesc("nats_reconnects_total", "Times that a lost NATS connection came back.")
)

// droneReader collects what is read of the drone when somebody asks.
type droneReader Drone

func (r *droneReader) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descDroneInfo, descDroneReady, descDroneBackends, descDroneAsleep, descDroneLoad, descDroneCapacity, descDroneUnreported, descDroneLease,
		descDroneConnected, descDroneReconnects,
	} {
		out <- d
	}
}

func (r *droneReader) Collect(out chan<- prometheus.Metric) {
	source := r.source.Load()
	if source == nil {
		return
	}
	now := source.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	yes := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	gauge(descDroneInfo, 1, source.Name, source.Version, source.Cluster, source.Pool)
	gauge(descDroneReady, yes(source.Ready(context.Background()) == nil))
	all := 0
	for status, n := range now.Backends {
		all += n
		gauge(descDroneBackends, float64(n), status)
	}
	gauge(descDroneAsleep, float64(now.Asleep))
	for resource, v := range map[string][2]float64{
		"backends": {float64(all), now.MaxBackends}, "memory": {now.Memory, now.MaxMemory}, "cpus": {now.CPUs, now.MaxCPUs},
	} {
		gauge(descDroneLoad, v[0], resource)
		if v[1] > 0 {
			gauge(descDroneCapacity, v[1], resource)
		}
	}
	gauge(descDroneUnreported, float64(now.Unreported))
	gauge(descDroneLease, now.LeaseLeft.Seconds())
	gauge(descDroneConnected, yes(now.Connected))
	out <- prometheus.MustNewConstMetric(descDroneReconnects, prometheus.CounterValue, float64(now.Reconnects))
}
