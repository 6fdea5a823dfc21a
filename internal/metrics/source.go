package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const prefix = "jetway_worker_"

// Source is where a running worker is read. All of its functions are required.
type Source struct {
	Name, Version string
	// Now gives what is shown of this moment. It must not wait.
	Now func() Snapshot
	// Alive says why the worker should be started anew; nil: it should not.
	Alive func() error
	// Ready says, in one line for people, why it does not answer requests; nil: it
	// does. It may ask Postgres and NATS until ctx ends.
	Ready func(ctx context.Context) error
}

// Snapshot is what was read of a worker.
type Snapshot struct {
	Queues []Queue
	// Parked requests wait for a backend to leave.
	Parked int
	Pool   Pool
	// Connected and Reconnects are the NATS connection's.
	Connected  bool
	Reconnects uint64
	// Outbox is what lies in it, by kind; nil when it could not be read lately.
	// All workers of a database read the same.
	Outbox []Backlog
	// Fleet is nil when it could not be read lately.
	Fleet *Fleet
}

// Queue is that of a lane: how many requests wait, and how many may.
type Queue struct {
	Lane           string
	Waiting, Limit int
}

// Pool is the use of the Postgres pool.
type Pool struct {
	InUse, Idle, Limit int
	// Waits are the statements that had to wait for a connection, Waited for how long.
	Waits  int64
	Waited time.Duration
}

// Backlog is what lies in the outbox of one kind.
type Backlog struct {
	Kind string
	Rows int
	// Oldest is the age of the oldest row; Overdue how far the most overdue is past
	// the time at which it should have been published again.
	Oldest, Overdue time.Duration
}

// Show has the worker shown from now on: its gauges and its probes.
func (w *Worker) Show(s Source) { w.source.Store(&s) }

func (w *Worker) probes() *probes {
	s := w.source.Load()
	if s == nil {
		return nil
	}
	return &probes{alive: s.Alive, ready: s.Ready}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

var (
	descInfo          = desc("info", "1 for this worker.", "worker", "version")
	descQueue         = desc("queue_requests", "Requests that wait in a lane's queue.", "lane")
	descQueueLimit    = desc("queue_limit_requests", "Most requests that may wait in a lane's queue; more are refused with Overloaded.", "lane")
	descParked        = desc("parked_requests", "Connects that wait for a backend to leave.")
	descPool          = desc("postgres_connections", "Connections of the Postgres pool, by state: in_use or idle.", "state")
	descPoolLimit     = desc("postgres_limit_connections", "Most connections of the Postgres pool.")
	descPoolWaits     = desc("postgres_acquire_waits_total", "Statements that had to wait for a connection of the pool.")
	descPoolWaited    = desc("postgres_acquire_wait_seconds_total", "Time that statements waited for a connection of the pool.")
	descConnected     = desc("nats_connected", "1 while connected to NATS, else 0.")
	descReconnects    = desc("nats_reconnects_total", "Times that a lost NATS connection came back.")
	descOutboxRows    = desc("outbox_rows", "Rows in the outbox of the database, by kind: events not yet published, actions not yet taken.", "kind")
	descOutboxOldest  = desc("outbox_oldest_seconds", "Age of the oldest row in the outbox of the database, by kind.", "kind")
	descOutboxOverdue = desc("outbox_overdue_seconds", "How long the most overdue row of the outbox has waited to be published again, by kind.", "kind")
)

// reader collects what is read of the worker when somebody asks.
type reader Worker

func (r *reader) Describe(out chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{
		descInfo, descQueue, descQueueLimit, descParked, descPool, descPoolLimit, descPoolWaits, descPoolWaited,
		descConnected, descReconnects, descOutboxRows, descOutboxOldest, descOutboxOverdue,
	}, fleetDescs...) {
		out <- d
	}
}

func (r *reader) Collect(out chan<- prometheus.Metric) {
	source := r.source.Load()
	if source == nil {
		return
	}
	now := source.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge(descInfo, 1, source.Name, source.Version)
	for _, q := range now.Queues {
		gauge(descQueue, float64(q.Waiting), q.Lane)
		gauge(descQueueLimit, float64(q.Limit), q.Lane)
	}
	gauge(descParked, float64(now.Parked))
	gauge(descPool, float64(now.Pool.InUse), "in_use")
	gauge(descPool, float64(now.Pool.Idle), "idle")
	gauge(descPoolLimit, float64(now.Pool.Limit))
	counter(descPoolWaits, float64(now.Pool.Waits))
	counter(descPoolWaited, now.Pool.Waited.Seconds())
	connected := 0.0
	if now.Connected {
		connected = 1
	}
	gauge(descConnected, connected)
	counter(descReconnects, float64(now.Reconnects))
	now.Fleet.collect(out)
	for _, b := range now.Outbox {
		gauge(descOutboxRows, float64(b.Rows), b.Kind)
		gauge(descOutboxOldest, b.Oldest.Seconds(), b.Kind)
		gauge(descOutboxOverdue, b.Overdue.Seconds(), b.Kind)
	}
}
