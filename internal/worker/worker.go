package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// DefaultRetain is how long what has ended is kept, and MinRetain the least that an operator
// may ask for: longer than any statement runs, and than what is under way when a backend ends.
const (
	DefaultRetain = 24 * time.Hour
	MinRetain     = time.Minute
)

// DefaultStartWithin is more than the drones' default for all parts of a start; MinStartWithin the
// least that an operator may ask for.
const (
	DefaultStartWithin = 20 * time.Minute
	MinStartWithin     = time.Minute
)

// Config of a worker. Name, NATS connection, store and log are required.
type Config struct {
	// Name is wo-….
	Name string
	// Version is this build's, shown by `nats micro info`.
	Version string
	// DefaultCluster is for connects that name none; "" refuses them.
	DefaultCluster string
	// Origins gives backends hosts of their own, below their clusters, where connects do not say.
	Origins bool
	// TokenLifetime is how long a token lives after its last use, where a connect does not say. Default 1 h.
	TokenLifetime time.Duration
	// Keys seal static tokens; without one the worker gives none. Default: no keys.
	Keys *lease.Keys
	// MaxUserData is how long a connect's auth may be as a header of requests, in bytes. Default messages.MaxUserData.
	MaxUserData int
	// TemplatesOnly refuses connects that bring an executable of their own.
	TemplatesOnly bool
	// Streams are how large the streams may become and how many servers keep them. Default bus.DefaultStreams.
	Streams bus.Streams
	// StartWithin is how long a backend may take from its scheduling until it is ready
	// before the worker ends it, should its drone not have done so. Default 20 min.
	StartWithin time.Duration
	// Retain is how long backends that have ended, and drones that are lost, are kept. Default 24 h.
	Retain time.Duration
	// OnReady is called once requests are answered.
	OnReady func()
	// Metrics, if not nil, counts what the worker does and shows its state.
	Metrics *metrics.Worker
	// Tracer makes spans of requests; nil: none.
	Tracer *tracing.Tracer
	Log    *slog.Logger

	// What follows no flag sets: tests make it small, or let it not come.

	// Queue is how many requests may wait in each lane. Default 4096.
	Queue int
	// Batch is the most connects settled by one statement. Default 64.
	Batch int
	// SweepEvery is about how often it looks for what is due. Default 1 s.
	SweepEvery time.Duration
	// CompareEvery is how often it compares its database with that of other workers. Default 30 s.
	CompareEvery time.Duration
	// RetainEvery is about how often it looks for what is past its time. Default 10 s.
	RetainEvery time.Duration
}

// Validate fills in defaults and refuses what cannot work.
func (c *Config) Validate() error {
	if err := messages.CheckWorkerName(c.Name); err != nil {
		return err
	}
	if c.DefaultCluster != "" {
		if err := messages.CheckCluster(c.DefaultCluster); err != nil {
			return fmt.Errorf("default cluster: %w", err)
		}
	}
	for _, n := range []struct {
		v         *int
		otherwise int
		name      string
	}{{&c.Queue, 4096, "queue"}, {&c.Batch, 64, "batch"}} {
		if *n.v == 0 {
			*n.v = n.otherwise
		}
		if *n.v < 0 {
			return fmt.Errorf("%s must be positive", n.name)
		}
	}
	c.TokenLifetime = cmp.Or(c.TokenLifetime, lease.DefaultTokenLifetime)
	c.Keys = cmp.Or(c.Keys, new(lease.Keys))
	c.MaxUserData = cmp.Or(c.MaxUserData, messages.MaxUserData)
	c.Streams = c.Streams.OrDefault()
	c.SweepEvery = cmp.Or(c.SweepEvery, time.Second)
	c.StartWithin = cmp.Or(c.StartWithin, DefaultStartWithin)
	c.Retain = cmp.Or(c.Retain, DefaultRetain)
	c.RetainEvery = cmp.Or(c.RetainEvery, 10*time.Second)
	c.CompareEvery = cmp.Or(c.CompareEvery, 30*time.Second)
	if min(c.SweepEvery, c.StartWithin, c.Retain, c.RetainEvery, c.TokenLifetime) < 0 {
		return errors.New("intervals and bounds of time must be positive")
	}
	return nil
}

// Run answers requests until ctx ends, then finishes what it took. It migrates the
// database, makes the streams, and waits for Postgres and NATS to come. An error
// means that it cannot go on: a newer database, or the service stopped by itself.
func Run(ctx context.Context, cfg Config, nc *nats.Conn, st *store.Store) error {
	w, err := newWorker(cfg, nc, st)
	if err != nil {
		return err
	}
	return w.run(ctx)
}

// worker is one run.
type worker struct {
	cfg       Config
	nc        *nats.Conn
	js        jetstream.JetStream
	store     *store.Store
	connector *lease.Connector
	relay     *outbox.Relay
	replies   replier
	leaving   *leaving
	lanes     lanes
	metrics   *metrics.Worker
	phase     atomic.Int32 // for readiness
	backlog   atomic.Pointer[[]metrics.Backlog]
	fleet     atomic.Pointer[metrics.Fleet]
	missing   <-chan struct{}        // a stream is
	elsewhere atomic.Pointer[string] // another worker, that is at another database
	// sealWaitsFor is the worker that has last been seen without the key, for sealTokens alone.
	sealWaitsFor string
	log          *slog.Logger

	intakeMu sync.RWMutex
	stopped  bool // nothing is let into the lanes any more
	heir     bool // then: another worker is there
}

// lanes are the queues, by who must not wait for whom: what keeps a lease or a session
// alive waits for nothing else, a registration may wait for JetStream, and who ends
// backends or asks for one does not wait for those who list them.
type lanes struct{ connect, register, heartbeat, report, route, keepalive, operator, listing *lane }

func (l *lanes) all() []*lane {
	return []*lane{l.connect, l.register, l.heartbeat, l.report, l.route, l.keepalive, l.operator, l.listing}
}

func newWorker(cfg Config, nc *nats.Conn, st *store.Store) (*worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	publisher, err := bus.NewPublisher(nc)
	if err != nil {
		return nil, err
	}
	log := cfg.Log.With("worker", cfg.Name)
	missing := make(chan struct{}, 1)
	counts := cfg.Metrics
	if counts == nil {
		counts = metrics.NewWorker(nil)
	}
	w := &worker{
		cfg: cfg, nc: nc, js: js, store: st, missing: missing, metrics: counts, log: log,
		connector: lease.NewConnector(lease.Config{
			Store: st, DefaultCluster: cfg.DefaultCluster, Origins: cfg.Origins, TokenLifetime: cfg.TokenLifetime, Keys: cfg.Keys, OnTakeover: counts.TookOver, Log: log,
		}),
		relay: outbox.NewRelay(outbox.Config{
			Store: st, Publisher: mending{publisher, missing}, Deadlines: func(ms int64) messages.Deadlines { return st.Terms().Deadlines(ms) }, Open: cfg.Keys.Open, Counter: counts, Tracer: cfg.Tracer, Log: log,
		}),
		replies: newReplier(nc, log),
	}
	// Runners wait for Postgres most of the time; two keep it busy while one
	// reads the next batch.
	connectRunners := max(2, runtime.GOMAXPROCS(0)/2)
	w.lanes = lanes{
		connect:   newLane("connect", cfg.Queue, connectRunners, cfg.Batch, w.connectBatch),
		register:  newLane("register", cfg.Queue, 2, 1, w.each(w.droneRequest)),
		heartbeat: newLane("heartbeat", cfg.Queue, 2, 1, w.each(w.droneRequest)),
		report:    newLane("report", cfg.Queue, 2, 1, w.each(w.droneRequest)),
		route:     newLane("route", cfg.Queue, 1, cfg.Batch, w.routeBatch),
		keepalive: newLane("keepalive", cfg.Queue, 1, 1, w.each(w.keepalive)),
		operator:  newLane("operator", cfg.Queue, 2, 1, w.each(w.operatorRequest)),
		listing:   newLane("listing", cfg.Queue, 1, 1, w.each(w.listingRequest)),
	}
	for _, cause := range []store.Cause{causeDrone, store.CauseLost, store.CauseStart, store.CauseGrace, store.CauseStuck, store.CauseLifetime, store.CauseIdle, store.CauseDrained, store.CauseAsleep} {
		counts.Swept(string(cause), 0)
	}
	w.lanes.connect.counts, w.lanes.route.counts = counts.Lane("connect"), counts.Lane("route")
	w.leaving = newLeaving(nc, w.lanes.connect.retry, w.replies.fail, w.handBack)
	return w, nil
}

func (w *worker) run(ctx context.Context) error {
	if w.cfg.Metrics != nil {
		w.show()
	}
	defer w.phase.Store(ended)
	if err := w.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if w.awaitOneDatabase(ctx); ctx.Err() != nil {
		return nil
	}
	relayCtx, stopRelay := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { w.relay.Run(relayCtx) })
	background.Go(func() { w.watchBus(relayCtx) })
	if w.cfg.Metrics != nil {
		background.Go(func() { w.watchBacklog(relayCtx) })
		background.Go(func() { w.watchFleet(relayCtx) })
	}
	defer func() { stopRelay(); background.Wait() }()

	// It hands rows to the relay, so it ends first.
	var sweeping sync.WaitGroup
	sweepCtx, stopSweeping := context.WithCancel(ctx)
	sweeping.Go(func() { w.repeat(sweepCtx, "sweep", w.cfg.SweepEvery, w.sweep) })
	sweeping.Go(func() { w.repeat(sweepCtx, "delete what is past its time", w.cfg.RetainEvery, w.retain) })
	defer func() { stopSweeping(); sweeping.Wait() }()

	// What was taken is finished also when ctx has ended; its own deadlines bound it.
	for _, l := range w.lanes.all() {
		l.start(context.WithoutCancel(ctx))
	}
	closed := w.nc.StatusChanged(nats.CLOSED)
	defer w.nc.RemoveStatusListener(closed)
	service, err := w.serve()
	if err == nil {
		w.relay.Heal(true)
		background.Go(func() { w.watchOthers(relayCtx, service.Info.ServiceIdentity) })
		w.phase.Store(answering)
		w.log.Info("answering requests", "default_cluster", w.cfg.DefaultCluster)
		if len(w.cfg.Keys.IDs()) == 0 {
			w.log.Info("there is no key to seal static tokens with: connects that ask for one are refused until all workers have a --token-key-file")
		}
		if w.cfg.OnReady != nil {
			w.cfg.OnReady()
		}
		select {
		case <-ctx.Done():
		case <-closed:
			err = errors.New("the NATS connection was closed")
		}
		w.phase.Store(stopping)
		w.takeNoMore(service)
	}
	w.closeIntake()
	w.leaving.stop()
	for _, l := range w.lanes.all() {
		l.finish()
	}
	w.replies.close()
	w.log.Info("stopped")
	return err
}

// prepare waits for Postgres and NATS and makes what the worker needs in them.
func (w *worker) prepare(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	notify := func(err error, d time.Duration) {
		w.log.Warn("cannot start yet, trying again", "in", d.Round(time.Millisecond), "err", err)
	}
	return backoff.RetryNotify(func() error {
		asked := w.store.Terms()
		// A migration takes as long as it takes: cancelled, it would begin anew and never end.
		if err := w.store.Migrate(ctx); err != nil {
			if messages.KindOf(err) == messages.Unavailable {
				return err
			}
			return backoff.Permanent(err)
		}
		if terms := w.store.Terms(); terms != asked {
			w.log.Warn("the leases of this database live longer or shorter than this worker was told: it goes by the database, which the command lease-ttl changes",
				"lease_ttl", terms.TTL, "told", asked.TTL)
		}
		tryCtx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return bus.EnsureStreams(tryCtx, w.js, w.cfg.Streams)
	}, backoff.WithContext(wait, ctx), notify)
}

// endpoints are all that requests come to.
func (l *lanes) endpoints() []*endpoint {
	return []*endpoint{
		{name: "connect", subject: messages.SubjectConnect, lane: l.connect},
		{name: "terminate", subject: messages.SubjectTerminate, lane: l.operator},
		{name: "revoke", subject: messages.SubjectRevoke, lane: l.operator},
		{name: "drain", subject: messages.SubjectDrain, lane: l.operator},
		{name: "undrain", subject: messages.SubjectUndrain, lane: l.operator},
		{name: "forget", subject: messages.SubjectForget, lane: l.operator},
		{name: "retry", subject: messages.SubjectRetry, lane: l.operator},
		{name: "sleep", subject: messages.SubjectSleep, lane: l.operator},
		{name: "wake", subject: messages.SubjectWake, lane: l.operator},
		{name: "status", subject: messages.SubjectStatus, lane: l.operator},
		{name: "template-put", subject: messages.SubjectTemplatePut, lane: l.operator},
		{name: "template-get", subject: messages.SubjectTemplateGet, lane: l.operator},
		{name: "template-delete", subject: messages.SubjectTemplateDelete, lane: l.operator},
		{name: "template-list", subject: messages.SubjectTemplateList, lane: l.listing},
		{name: "backends", subject: messages.SubjectBackends, lane: l.listing},
		{name: "drones", subject: messages.SubjectDrones, lane: l.listing},
		{name: "keys", subject: messages.SubjectKeys, lane: l.listing},
		{name: "register", subject: messages.SubjectAnyRegister, lane: l.register},
		{name: "templates", subject: messages.SubjectAnyTemplates, lane: l.register},
		{name: "report", subject: messages.SubjectAnyReport, lane: l.report},
		{name: "heartbeat", subject: messages.SubjectAnyHeartbeat, lane: l.heartbeat},
		{name: "route", subject: messages.SubjectAnyRoute, lane: l.route},
		{name: "keepalive", subject: messages.SubjectAnyKeepalive, lane: l.keepalive},
	}
}

// pending is how many bytes an endpoint may have in the NATS client.
func (l *lanes) pending(e *endpoint) int {
	if e.lane == l.operator || e.lane == l.listing {
		return pendingByHand
	}
	return pendingBytes
}

// serve announces the service and its endpoints.
func (w *worker) serve() (*service, error) {
	s := newService(w.nc, w.cfg.Version, w.metadata())
	s.Metadata = w.metadata
	for _, e := range w.lanes.endpoints() {
		e.metrics = w.metrics.Endpoint(e.name)
		if err := s.listen(e, w.lanes.pending(e), func(msg *nats.Msg) { w.intake(e, msg) }); err != nil {
			return s, err
		}
	}
	return s, s.announce()
}

// each runs the requests of a batch one by one, within their deadlines.
func (w *worker) each(handle func(context.Context, *request) (any, error)) func(context.Context, []*request) {
	return func(ctx context.Context, batch []*request) {
		for _, req := range batch {
			w.one(ctx, req, handle)
		}
	}
}

func (w *worker) one(ctx context.Context, req *request, handle func(context.Context, *request) (any, error)) {
	ctx, cancel := context.WithDeadline(ctx, req.deadline)
	defer cancel()
	resp, err := handle(store.WithTrace(ctx, traceparent(req)), req)
	if err != nil {
		w.replies.fail(req, err)
		return
	}
	w.replies.ok(req, resp)
}
