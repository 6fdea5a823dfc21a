package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jetway-project/jetway/messages"
)

// OK is the outcome of a request that was granted; of others it is their kind.
const OK = "ok"

// Worker is what one worker counts. Safe for use by several goroutines.
type Worker struct {
	requests      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	batches       *prometheus.HistogramVec
	batchSeconds  *prometheus.HistogramVec
	spawned       prometheus.Counter
	resumed       prometheus.Counter
	noDrone       *prometheus.CounterVec
	takeovers     prometheus.Counter
	sweeps        *prometheus.CounterVec
	asleep, woken prometheus.Counter
	events        published
	actions       published
	healed        prometheus.Counter

	source atomic.Pointer[Source]
}

// published counts what the bus took and what it did not.
type published struct{ ok, failed prometheus.Counter }

// Buckets, in seconds and in requests.
var (
	secondsBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
	batchBuckets   = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

// NewWorker makes the metrics of a worker and registers them with reg; with nil
// they are counted but shown to nobody. It panics when reg has them already.
func NewWorker(reg prometheus.Registerer) *Worker {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, []string{label})
	}
	spawned := counter("backends_spawned_total", "Backends that connects of this worker scheduled.")
	resumed := counter("backends_resumed_total", "Those of them that go on with the life of a dormant key.")
	takeovers := counter("lease_takeovers_total", "Expired leases that connects took over from a lost backend.")
	events := counter("outbox_published_total", "Events that the bus acknowledged, and actions that were sent.", "kind")
	failures := counter("outbox_publish_failures_total", "Events that the bus did not acknowledge, and actions that could not be sent; they are tried again.", "kind")
	naps := counter("naps_total", "Backends that this worker put to sleep (asleep), and those that it woke (awake).", "to")
	healed := counter("outbox_healed_rows_total", "Outbox rows published again because they were overdue.")
	w := &Worker{
		requests:     counter("requests_total", "Requests replied to, by their outcome: ok, or the kind of the error.", "endpoint", "outcome"),
		seconds:      histogram("request_duration_seconds", "From a request's arrival to its reply, waits for a leaving backend included.", secondsBuckets, "endpoint"),
		batches:      histogram("batch_requests", "Requests settled by one statement.", batchBuckets, "lane"),
		batchSeconds: histogram("batch_duration_seconds", "From the taking of a batch to its last reply.", secondsBuckets, "lane"),
		sweeps:       counter("sweeps_total", "Backends, drones and rows that sweeps acted on, by cause.", "cause"),
		spawned:      spawned.WithLabelValues(),
		resumed:      resumed.WithLabelValues(),
		noDrone:      counter("no_drone_total", "Connects that were refused for no drone takes a backend, by reason.", "reason"),
		takeovers:    takeovers.WithLabelValues(),
		healed:       healed.WithLabelValues(),
		asleep:       naps.WithLabelValues("asleep"),
		woken:        naps.WithLabelValues("awake"),
		events:       published{events.WithLabelValues("event"), failures.WithLabelValues("event")},
		actions:      published{events.WithLabelValues("action"), failures.WithLabelValues("action")},
	}
	for _, reason := range messages.NoDrones() {
		w.noDrone.WithLabelValues(string(reason))
	}
	if reg != nil {
		reg.MustRegister(w.noDrone, w.requests, w.seconds, w.batches, w.batchSeconds, w.sweeps,
			spawned, resumed, takeovers, naps, events, failures, healed, (*reader)(w))
	}
	return w
}

// Endpoint counts the requests of one endpoint of the service.
type Endpoint struct {
	vec     *prometheus.CounterVec
	name    string
	ok      prometheus.Counter
	refused map[messages.Kind]prometheus.Counter // never written again
	seconds prometheus.Observer
}

// Endpoint gives the counters of an endpoint, all there from the start, at zero.
func (w *Worker) Endpoint(name string) *Endpoint {
	e := &Endpoint{
		vec: w.requests, name: name, ok: w.requests.WithLabelValues(name, OK),
		refused: make(map[messages.Kind]prometheus.Counter), seconds: w.seconds.WithLabelValues(name),
	}
	for _, kind := range messages.Kinds() {
		e.refused[kind] = w.requests.WithLabelValues(name, string(kind))
	}
	return e
}

// Done counts a request that is replied to now: kind is "" when it was granted.
func (e *Endpoint) Done(kind messages.Kind, took time.Duration) {
	e.seconds.Observe(took.Seconds())
	if kind == "" {
		e.ok.Inc()
		return
	}
	if c := e.refused[kind]; c != nil {
		c.Inc()
		return
	}
	e.vec.WithLabelValues(e.name, string(kind)).Inc()
}

// Lane counts the batches of one lane.
type Lane struct{ requests, seconds prometheus.Observer }

// Lane gives the counters of a lane that settles requests in batches.
func (w *Worker) Lane(name string) *Lane {
	return &Lane{requests: w.batches.WithLabelValues(name), seconds: w.batchSeconds.WithLabelValues(name)}
}

// Batch counts a batch that was settled. On nil it does nothing.
func (l *Lane) Batch(requests int, took time.Duration) {
	if l == nil {
		return
	}
	l.requests.Observe(float64(requests))
	l.seconds.Observe(took.Seconds())
}

// Spawned counts a backend that was scheduled.
func (w *Worker) Spawned() { w.spawned.Inc() }

// Resumed counts a backend that goes on with the life of a dormant key.
func (w *Worker) Resumed() { w.resumed.Inc() }

// NoDrone counts a connect that found no drone.
func (w *Worker) NoDrone(reason string) { w.noDrone.WithLabelValues(reason).Inc() }

// Napped counts a backend that was put to sleep, or woken.
func (w *Worker) Napped(asleep bool) {
	if asleep {
		w.asleep.Inc()
	} else {
		w.woken.Inc()
	}
}

// TookOver counts an expired lease that was taken over.
func (w *Worker) TookOver() { w.takeovers.Inc() }

// Swept counts n things that a sweep acted on for one cause: a short constant
// word such as limit or lost. With 0 the cause is shown before it has happened.
func (w *Worker) Swept(cause string, n int) {
	w.sweeps.WithLabelValues(cause).Add(float64(n))
}

// Published counts messages of the outbox: events that the bus acknowledged or
// actions that were sent, and those of which that failed.
func (w *Worker) Published(action bool, ok, failed int) {
	p := &w.events
	if action {
		p = &w.actions
	}
	p.ok.Add(float64(ok))
	p.failed.Add(float64(failed))
}

// Healed counts outbox rows that were found overdue.
func (w *Worker) Healed(rows int) { w.healed.Add(float64(rows)) }
