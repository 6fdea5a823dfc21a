package drone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
)

// fakeMachine is what outlives a run of the agent: what it runs goes on when an adopting runtime on it is
// closed, and the next one adopts it.
type fakeMachine struct {
	*fake.Runtime

	mu   sync.Mutex
	byID map[string]*kept // also ended ones: their exit is known
	away error
	asks int
}

// kept is an instance that a later run finds.
type kept struct {
	*fake.Instance
	handle string
}

func (k *kept) Handle() string { return k.handle }

func newFakeMachine() *fakeMachine {
	return &fakeMachine{Runtime: fake.New(), byID: map[string]*kept{}}
}

// adopting is the runtime of one run of an agent.
type adopting struct {
	*fake.Runtime
	machine *fakeMachine
	closed  atomic.Bool
}

var _ runtime.Adopter = (*adopting)(nil)

func (m *fakeMachine) runtime() *adopting { return &adopting{Runtime: m.Runtime, machine: m} }

// setAway makes the machine's runtimes fail to tell what runs; nil ends that.
func (m *fakeMachine) setAway(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = err
}

// asked is how often a runtime was asked to adopt something.
func (m *fakeMachine) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asks
}

func (r *adopting) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	if r.closed.Load() {
		return nil, fmt.Errorf("start: %w", runtime.ErrClosed)
	}
	started, err := r.Runtime.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	instance := &kept{started.(*fake.Instance), "fake-" + spec.BackendID}
	r.machine.byID[spec.BackendID] = instance
	return instance, nil
}

// Adopt gives the instance that was started for the backend, by whichever runtime.
func (r *adopting) Adopt(ctx context.Context, spec runtime.Spec, handle string) (runtime.Instance, error) {
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	r.machine.asks++
	if r.machine.away != nil {
		return nil, r.machine.away
	}
	if instance := r.machine.byID[spec.BackendID]; instance != nil {
		if handle != "" && handle != instance.handle {
			return nil, errors.New("fake: " + spec.BackendID + " has another handle than " + handle)
		}
		return instance, nil
	}
	never, err := r.Runtime.Start(ctx, runtime.Spec{BackendID: spec.BackendID})
	if err == nil {
		never.(*fake.Instance).End(runtime.Exit{Code: -1, Message: "nothing of it is left"})
	}
	return never, err
}

// Find lists the backends that run.
func (r *adopting) Find(context.Context) (ids []string, err error) {
	r.machine.mu.Lock()
	err = r.machine.away
	r.machine.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, i := range r.machine.Live() {
		ids = append(ids, i.BackendID())
	}
	return ids, nil
}

// WithoutSecrets is the executable without its field `secret`.
func (r *adopting) WithoutSecrets(executable json.RawMessage) (safe json.RawMessage, had bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(executable, &fields) != nil || fields["secret"] == nil {
		return executable, false
	}
	delete(fields, "secret")
	return messages.Encode(fields), true
}

// Close takes no more starts. What runs is the machine's, and runs on.
func (r *adopting) Close() error {
	r.closed.Store(true)
	return nil
}
