package fake

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// Machine is what outlives a run of the agent: its instances run on when a
// runtime on it is closed, and the next one adopts them.
type Machine struct {
	mu   sync.Mutex
	byID map[string]*Instance // also ended ones: their exit is known
	away error
	asks int
}

// NewMachine returns a machine on which nothing runs.
func NewMachine() *Machine { return &Machine{byID: map[string]*Instance{}} }

// Adopting is a runtime on a machine. Make it with Machine.Runtime.
type Adopting struct {
	*Runtime
	machine *Machine
}

var _ runtime.Adopter = (*Adopting)(nil)

// Runtime gives a runtime for one run of an agent.
func (m *Machine) Runtime() *Adopting { return &Adopting{Runtime: New(), machine: m} }

// SetAway makes the machine's runtimes fail to tell what runs; nil ends that.
func (m *Machine) SetAway(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = err
}

// Asks is how often a runtime was asked to adopt something.
func (m *Machine) Asks() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asks
}

// Live gives the instances that run, in no order.
func (m *Machine) Live() (live []*Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.byID {
		select {
		case <-i.Done():
		default:
			live = append(live, i)
		}
	}
	return live
}

// Stop ends all instances, as the machine's end does.
func (m *Machine) Stop() {
	for _, i := range m.Live() {
		i.end(killed)
	}
}

// Start is that of the Runtime; the instance is the machine's.
func (r *Adopting) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	started, err := r.Runtime.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	instance := started.(*Instance)
	instance.handle = "fake-" + spec.BackendID
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	r.machine.byID[spec.BackendID] = instance
	return instance, nil
}

// Adopt gives the instance that was started for the backend, by whichever runtime.
func (r *Adopting) Adopt(_ context.Context, spec runtime.Spec, handle string) (runtime.Instance, error) {
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
	never := &Instance{done: make(chan struct{}), owner: r.Runtime, backendID: spec.BackendID}
	never.end(runtime.Exit{Code: -1, Message: "nothing of it is left"})
	return never, nil
}

// Find lists the backends that run.
func (r *Adopting) Find(context.Context) (ids []string, err error) {
	r.machine.mu.Lock()
	err = r.machine.away
	r.machine.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, i := range r.machine.Live() {
		ids = append(ids, i.backendID)
	}
	return ids, nil
}

// WithoutSecrets is the executable without its field `secret`.
func (r *Adopting) WithoutSecrets(executable json.RawMessage) (safe json.RawMessage, had bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(executable, &fields) != nil || fields["secret"] == nil {
		return executable, false
	}
	delete(fields, "secret")
	return messages.Encode(fields), true
}

// Close takes no more starts. What runs is the machine's, and runs on.
func (r *Adopting) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
