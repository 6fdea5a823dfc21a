package drone

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/drone/spares"
	"github.com/jetway-project/jetway/internal/runtime"
)

// agent is one run of a drone's agent.
type agent struct {
	cfg     Config
	who     *identity.Identity
	log     *slog.Logger
	nc      *nats.Conn
	rt      runtime.Runtime
	reports *reporter
	output  *publisher
	memory  memory
	spares  *spares.Pool
	// templates is the revision of the templates that the workers know, as far as it was heard; askTemplates tells that it is another one.
	templates    atomic.Int64
	askTemplates chan struct{}
	// known says that a worker has answered a registration of the present session. It is
	// written under the lock.
	known atomic.Bool
	// renewed says that a heartbeat was answered since the last registration was asked for.
	renewed atomic.Bool
	// wake tells the keeper that something is due earlier than it thinks.
	wake chan struct{}
	// kick has the session's lease renewed at once, for there is something to say; changed
	// has it renewed soon.
	kick, changed chan struct{}
	// beating has room for the one heartbeat that is under way, whose are: since when no spawns are taken, and whether the log says so.
	beating     chan struct{}
	unableSince time.Time
	complained  bool
	// enroll tells that a registration is due.
	enroll chan struct{}
	// registered has the newest registration for the consumer.
	registered chan registration
	// fatal has what ends the agent from inside.
	fatal chan error

	// work ends when the agent does not look after its backends any more.
	work context.Context
	// reclaiming has room for the one backend whose memory is handed back.
	reclaiming chan struct{}

	wg sync.WaitGroup
	// turns counts the backends that are being put to sleep or woken.
	turns sync.WaitGroup
	// launching counts the starts that the runtime is asked for and has not answered.
	launching sync.WaitGroup

	mu       sync.Mutex
	backends map[string]*held
	ended    *ended
	session  session
	graceMS  int64
	// stopping says that no more spawns are taken; leaving that no more are
	// begun either, and that what is begun is the next run's.
	stopping, leaving bool
	// promised is what the backends demand of the machine.
	promised runtime.Demands
	full     bool
	// unsealed says that leases that are not renewed may not be in the journal yet.
	unsealed bool
	// stated is how many backends the workers were told of last.
	stated int
	// nextDueMS is when the keeper looks next.
	nextDueMS int64
	// statedSleeps is what the workers were told of the runtime's ability to put backends to sleep.
	statedSleeps bool
	// unanswered is why the last heartbeat or registration renewed nothing, and renewedAtMS when the last one did, in the drone's time.
	unanswered  error
	renewedAtMS int64
	// onFewer is nudged, if set, when there is a backend less.
	onFewer chan struct{}
}

// Run is the agent: it takes over what an earlier run left, registers, takes actions
// and keeps leases until ctx ends. Then it leaves, drains or ends its backends, as
// cfg.OnExit says, and returns. It returns an error when the configuration is wrong,
// when another agent of this machine has the name or the data directory, when the
// connection was closed under it, or when something did not end in time.
func Run(ctx context.Context, cfg Config, nc *nats.Conn, rt runtime.Runtime) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	// First of all: what another agent of the name runs is not to be touched (I1).
	who := cfg.Who
	if who == nil {
		if who, err = identity.Take(cfg.Name, cfg.DataDir, cfg.Log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, who.Release()) }()
	}
	a := newAgent(cfg, who, nc, rt)
	// The end of ctx asks for an exit, for which all that follows is needed.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.work = work
	before, err := a.remember(work)
	if err != nil {
		stop()
		return err
	}
	defer func() {
		stop()
		a.mu.Lock()   // who tells of an end has done so, or hears that it is the next run's
		a.mu.Unlock() //nolint:staticcheck // that was all
		a.wg.Wait()
		if closeErr := a.memory.journal.Close(); err == nil {
			err = closeErr
		}
	}()
	a.show()
	a.wg.Go(func() { a.keep(work) })
	a.wg.Go(func() { a.output.run(work) })
	if a.takeOver(ctx, work, before) != nil {
		return nil // asked to stop before there was anything to exit from
	}
	a.wg.Go(func() { a.reports.run(work) })
	a.wg.Go(func() { a.keepRegistered(work) })
	a.wg.Go(func() { a.keepLease(work) })
	a.wg.Go(func() { a.consume(work) })
	a.wg.Go(func() { a.measure(work) })
	a.wg.Go(func() { a.attend(work) })
	a.wg.Go(func() { a.keepSpares(work) })

	select {
	case <-ctx.Done():
	case err = <-a.fatal:
	}
	if exitErr := a.exit(work); err == nil {
		err = exitErr
	}
	return err
}

func newAgent(cfg Config, who *identity.Identity, nc *nats.Conn, rt runtime.Runtime) *agent {
	a := &agent{
		cfg: cfg, who: who, log: cfg.Log.With("drone", cfg.Name), nc: nc, rt: rt,
		output:  newPublisher(nc),
		wake:    make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		beating: make(chan struct{}, 1),

		reclaiming: make(chan struct{}, 1),
		enroll:     make(chan struct{}, 1),

		askTemplates: make(chan struct{}, 1),
		registered:   make(chan registration, 1),
		fatal:        make(chan error, 1),
		backends:     map[string]*held{},
		ended:        newEnded(),
		graceMS:      cfg.Grace.Milliseconds(),
		session:      newSession(defaultInterval),
		nextDueMS:    never,
	}
	a.reports = newReporter(a)
	a.spares = a.newSpares()
	return a
}

// nowMS is the drone's time.
func (a *agent) nowMS() int64 { return a.cfg.Clock().Milliseconds() }

// nudge puts a signal in a channel that holds one.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// holds says how many backends there are.
func (a *agent) holds() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.backends)
}
