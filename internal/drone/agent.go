package drone

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// agent is one run of a drone's agent.
type agent struct {
	cfg     Config
	log     *slog.Logger
	nc      *nats.Conn
	rt      runtime.Runtime
	probes  *http.Client
	reports *reporter
	output  *publisher
	// wake tells the keeper that something is due earlier than it thinks.
	wake chan struct{}
	// kick tells the session that there is something to say.
	kick chan struct{}
	// registered has the newest registration for the consumer.
	registered chan registration
	// fatal has what ends the agent from inside.
	fatal chan error

	wg sync.WaitGroup

	mu       sync.Mutex
	backends map[string]*held
	ended    *ended
	session  session
	grace    time.Duration
	stopping bool
	// nextDueMS is when the keeper looks next.
	nextDueMS int64
	// onEmpty is closed, if set, when no backend is left.
	onEmpty chan struct{}
}

// held is a backend that the drone looks after, from its spawn until it has ended.
type held struct {
	backend
	id string
	// Deadlines of the lease, and of what else is waited for; 0: of nothing.
	softAtMS, hardAtMS   int64
	graceAtMS, readyByMS int64
	// lost says that the lease is not the drone's any more.
	lost bool
	// disowned says that reports of it are refused: none are made.
	disowned bool
	instance runtime.Instance
	// address is the instance's, host:port, or "".
	address string
	// abort ends the start and the probing.
	abort context.CancelFunc
	lines *lines
	// span is that of the start: from the spawn until it is ready, or has failed.
	span tracing.Span
}

// Run is the agent: it registers, takes actions and keeps leases until ctx ends,
// then ends its backends and returns. It returns an error when the configuration
// is wrong, when the connection was closed under it, or when something did not
// end in time.
func Run(ctx context.Context, cfg Config, nc *nats.Conn, rt runtime.Runtime) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a := newAgent(cfg.withDefaults(), nc, rt)
	var err error

	// The end of ctx asks for a shutdown, for which all that follows is needed.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	a.wg.Go(func() { a.keep(work) })
	a.wg.Go(func() { a.output.run(work) })
	a.wg.Go(func() { a.reports.run(work) })
	a.wg.Go(func() { a.keepSession(work) })
	a.wg.Go(func() { a.consume(work) })

	select {
	case <-ctx.Done():
	case err = <-a.fatal:
	}
	if shutdownErr := a.shutdown(work); err == nil {
		err = shutdownErr
	}
	stop()
	a.wg.Wait()
	a.probes.CloseIdleConnections()
	return err
}

func newAgent(cfg Config, nc *nats.Conn, rt runtime.Runtime) *agent {
	a := &agent{
		cfg: cfg, log: cfg.Log.With("drone", cfg.Name), nc: nc, rt: rt,
		probes:     newProbes(),
		output:     newPublisher(nc),
		wake:       make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		registered: make(chan registration, 1),
		fatal:      make(chan error, 1),
		backends:   map[string]*held{},
		ended:      newEnded(),
		grace:      cfg.Grace,
		session:    newSession(),
		nextDueMS:  never,
	}
	a.reports = newReporter(a)
	return a
}

// nowMS is the drone's time.
func (a *agent) nowMS() int64 { return a.cfg.Clock().Milliseconds() }

// apply lets an event happen to a backend.
func (a *agent) apply(ctx context.Context, h *held, e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.applyLocked(ctx, h, e)
}

// applyLocked is apply under a.mu. Nothing in it waits, so nothing is logged under
// the lock either: a log may be a pipe that nobody reads.
func (a *agent) applyLocked(ctx context.Context, h *held, e event) {
	next, fx := step(h.backend, e)
	h.backend = next
	if next.status >= messages.Ready {
		h.readyByMS = 0
		h.lines.keepNone()
	}
	if fx.report.Status != 0 && !h.disowned {
		if next.status == messages.Waiting || next.status == messages.Ready {
			fx.report.Address = h.address
		}
		a.reports.add(h.id, fx.report)
	}
	if fx.abort {
		h.abort()
	}
	if fx.grace {
		h.graceAtMS = a.nowMS() + a.grace.Milliseconds()
		a.dueLocked(h.graceAtMS)
	}
	switch instance := h.instance; fx.signal {
	case signalSoft:
		a.wg.Go(func() { a.terminate(ctx, h.id, instance) })
	case signalHard:
		a.wg.Go(func() { a.kill(ctx, h.id, instance) })
	}
	if fx.over {
		a.forgetLocked(h.id)
	}
}

// forgetLocked stops looking after a backend that has ended.
func (a *agent) forgetLocked(id string) {
	delete(a.backends, id)
	a.rememberLocked(id)
	if len(a.backends) == 0 && a.onEmpty != nil {
		close(a.onEmpty)
		a.onEmpty = nil
	}
}

// rememberLocked keeps id from being spawned (again) for twice the time that a lease
// lives, which is six heartbeats (I3).
func (a *agent) rememberLocked(id string) {
	now := a.nowMS()
	a.ended.add(id, now, now+2*6*a.session.interval.Milliseconds())
}

// terminate asks an instance to end. Should that fail, the grace still runs out.
func (a *agent) terminate(ctx context.Context, id string, instance runtime.Instance) {
	if err := instance.Terminate(ctx, false); err != nil {
		a.log.WarnContext(ctx, "cannot ask the backend to end", "backend_id", id, "err", err)
	}
}

// kill ends an instance, trying until it has ended (I1).
func (a *agent) kill(ctx context.Context, id string, instance runtime.Instance) {
	for {
		if err := instance.Terminate(ctx, true); err != nil {
			a.log.ErrorContext(ctx, "cannot kill the backend, trying again", "backend_id", id, "err", err)
		}
		again := time.NewTimer(time.Second)
		select {
		case <-instance.Done():
			again.Stop()
			return
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}

// disown kills backends that the workers say are not this drone's, without a word.
func (a *agent) disown(ctx context.Context, ids []string) {
	a.log.WarnContext(ctx, "killing backends that the workers say are not this drone's", "backend_ids", ids)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if h := a.backends[id]; h != nil {
			h.disowned = true
			a.loseLocked(ctx, h)
		}
	}
}

// loseLocked kills a backend whose lease is not the drone's any more.
func (a *agent) loseLocked(ctx context.Context, h *held) {
	h.lost = true
	a.applyLocked(ctx, h, endAsked{hard: true, reason: messages.ReasonLost, message: "the lease is no longer the drone's"})
}

// nudge puts a signal in a channel that holds one.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
