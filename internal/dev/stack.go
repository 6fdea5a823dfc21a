package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/tracing"
)

// Stack is all of Jetway, running. Make one with [Start].
type Stack struct {
	// NATSURL, PostgresDSN and ProxyURL are where the parts are reached.
	NATSURL, PostgresDSN, ProxyURL string
	// GatewayURL is where the gateway is, without a path.
	GatewayURL string
	// MetricsURL is where the worker's metrics are, without a path; "" if nowhere.
	MetricsURL string
	// Cluster is the one of the drone, and the worker's default.
	Cluster string

	cfg     Config
	metrics *metrics.Server   // nil if there is none
	parts   []part            // in the order of their start
	roles   []<-chan struct{} // closed when a role has ended

	done chan struct{}
	mu   sync.Mutex
	err  error

	stop    sync.Once
	stopErr error
}

// ErrKilled says that parts had not ended when Stop's context was over.
var ErrKilled = errors.New("killed before they had ended")

// part is something that was started.
type part struct {
	name string
	// stop ends it and waits. When ctx is over it kills instead of asking.
	stop func(ctx context.Context) error
}

// Start starts a stack and returns when all of it is ready. ctx bounds the start
// alone. Its errors name the flags of `jetway dev`.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Stack{cfg: cfg, done: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		// What a start began is not asked for long: nothing of worth runs in it.
		hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Grace)
		defer cancel()
		return nil, errors.Join(err, s.Stop(hurry))
	}
	return s, nil
}

// Done is closed when a part has ended by itself; Err says which.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Err says which part ended by itself and why; nil while none has.
func (s *Stack) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop ends all parts, the last started first, and waits for them. When ctx is
// over it kills what it has asked to end until then, and says so with ErrKilled.
// A second call waits for the first and gives its result.
func (s *Stack) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		var errs []error
		var killed []string
		for _, v := range slices.Backward(s.parts) {
			err := v.stop(ctx)
			if errors.Is(err, ErrKilled) {
				killed = append(killed, v.name)
			} else if err != nil {
				errs = append(errs, fmt.Errorf("stop the %s: %w", v.name, err))
			}
		}
		if len(killed) > 0 {
			errs = append(errs, fmt.Errorf("%w: %s", ErrKilled, strings.Join(killed, ", ")))
		}
		s.stopErr = errors.Join(errs...)
	})
	return s.stopErr
}

// Dial connects to the stack's NATS server. The caller closes.
func (s *Stack) Dial(ctx context.Context, name string) (*nats.Conn, error) {
	return bus.Connect(ctx, bus.Config{URL: s.NATSURL, Name: name, Log: s.cfg.Log})
}

// await waits for the roles, killed ones included.
func (s *Stack) await(context.Context) error {
	for _, ended := range s.roles {
		<-ended
	}
	return nil
}

// fail records that a part ended by itself.
func (s *Stack) fail(name string, err error) {
	if err == nil {
		err = errors.New("it ended without a word")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("the %s has ended: %w", name, err)
		close(s.done)
	}
}

// tracer gives the tracer of a role, closed after it.
func (s *Stack) tracer(ctx context.Context, title, name string) (*tracing.Tracer, error) {
	tracer, err := tracing.Open(ctx, tracing.Config{
		Endpoint: s.cfg.OTLPEndpoint, Role: title, Name: name, Version: s.cfg.Version, Log: s.cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("--otlp-endpoint: %w", err)
	}
	if tracer.On() {
		s.add("traces of the "+title, func(context.Context) error { tracer.Close(); return nil })
	}
	return tracer, nil
}

// add notes a part to stop.
func (s *Stack) add(name string, stop func(ctx context.Context) error) {
	s.parts = append(s.parts, part{name: name, stop: stop})
}

// watch tells the stack when ended is closed before the part is stopped. What it
// gives is to be called before the part is stopped.
func (s *Stack) watch(name string, ended <-chan struct{}, why func() error) (expect func()) {
	stopping, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-stopping:
		case <-ended:
			s.fail(name, why())
		}
	}()
	return func() {
		close(stopping)
		<-watched
	}
}

// role is a part that runs in this process and talks on the bus.
type role struct {
	title string // worker, drone, proxy
	name  string // of its connection
	// gap, if not nil, is told when a lost connection is back.
	gap func()
	// kill, if not nil, makes a role that was asked to end do so at once.
	kill func()
	// run runs it until ctx ends, and calls ready once.
	run func(ctx context.Context, nc *nats.Conn, ready func()) error
}

// run starts a role with a connection of its own, waits until it is ready and
// notes it to be stopped.
func (s *Stack) run(ctx context.Context, r role) error {
	nc, err := bus.Connect(ctx, bus.Config{URL: s.NATSURL, Name: r.name, OnReconnect: r.gap, Log: s.cfg.Log})
	if err != nil {
		return err
	}
	// The role outlives the start: it ends when it is stopped.
	roleCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready, ended := make(chan struct{}), make(chan struct{})
	s.roles = append(s.roles, ended)
	var roleErr error
	go func() {
		defer close(ended)
		var once sync.Once
		roleErr = r.run(roleCtx, nc, func() { once.Do(func() { close(ready) }) })
	}()
	end := func() error { <-ended; return roleErr }
	stop := func(ctx context.Context) error {
		cancel()
		select {
		case <-ended:
			bus.Drain(nc, drainTimeout)
			return roleErr
		case <-ctx.Done():
		}
		if r.kill != nil {
			r.kill()
		}
		// It is waited for when nothing else is left that could be killed.
		nc.Close()
		return ErrKilled
	}
	select {
	case <-ready:
	case <-ended:
		_ = stop(ctx)
		return fmt.Errorf("start the %s: %w", r.title, end())
	case <-ctx.Done():
		_ = stop(ctx)
		return fmt.Errorf("start the %s: %w", r.title, ctx.Err())
	}
	expect := s.watch(r.title, ended, end)
	s.add(r.title, func(ctx context.Context) error {
		expect()
		return stop(ctx)
	})
	return nil
}
