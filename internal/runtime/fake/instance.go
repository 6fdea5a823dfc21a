package fake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
)

var killed = runtime.Exit{Code: -1, Signal: "SIGKILL"}

// Instance is a backend that is not there.
type Instance struct {
	script    Script
	owner     *Runtime
	backendID string
	env       map[string]string
	done      chan struct{}

	mu     sync.Mutex
	ended  bool
	exit   runtime.Exit
	timers []*time.Timer
	asked  int // for the usage
	woken  func()
	asleep bool
}

var _ runtime.Sleeper = (*Instance)(nil)

// Address is the script's address, by default empty: ready at once.
func (i *Instance) Address() string { return i.script.Address }

// Handle is empty: what runs nothing can be adopted.
func (i *Instance) Handle() string { return "" }

// PID is 0: there is no process.
func (i *Instance) PID() int { return 0 }

// Usage is what the script says, the processor time once more with each call; without
// a word of the script it cannot be told.
func (i *Instance) Usage(context.Context) (runtime.Usage, error) {
	if i.script.UsesCPU == 0 && i.script.UsesMemory == 0 {
		return runtime.Usage{}, fmt.Errorf("fake: what nothing uses: %w", errors.ErrUnsupported)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	return runtime.Usage{
		CPU: time.Duration(i.asked) * time.Duration(i.script.UsesCPU), MemUsed: i.script.UsesMemory,
		MemLimit: uint64(i.script.MemoryBytes),
	}, nil
}

// BackendID is the id it was started with.
func (i *Instance) BackendID() string { return i.backendID }

// Env is the environment it was started with. It must not be changed.
func (i *Instance) Env() map[string]string { return i.env }

// Terminate ends the instance as its script says; with hard set, at once.
func (i *Instance) Terminate(ctx context.Context, hard bool) error {
	_ = i.Wake(ctx)
	switch {
	case hard:
		i.end(killed)
	case i.script.IgnoreTerm:
	case i.script.TermFor > 0:
		i.endAfter(time.Duration(i.script.TermFor), runtime.Exit{Code: i.script.ExitCode})
	default:
		i.end(runtime.Exit{Code: i.script.ExitCode})
	}
	return nil
}

// Sleep has it be asleep, or fails as its script says.
func (i *Instance) Sleep(_ context.Context, woken func()) error {
	if text := i.script.SleepError; text != "" {
		return errors.New(text)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asleep, i.woken = true, woken
	return nil
}

// Wake has it be awake.
func (i *Instance) Wake(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asleep, i.woken = false, nil
	return nil
}

// Asleep says whether it is.
func (i *Instance) Asleep() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asleep
}

// Stir has it go on, as if somebody else had thawed it.
func (i *Instance) Stir() {
	i.mu.Lock()
	woken := i.woken
	i.asleep, i.woken = false, nil
	i.mu.Unlock()
	if woken != nil {
		woken()
	}
}

// End ends the instance as if it had done so by itself. A second end changes nothing.
func (i *Instance) End(exit runtime.Exit) { i.end(exit) }

// Done is closed when the instance has ended.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Exit says how it ended; it is the zero Exit before Done is closed.
func (i *Instance) Exit() runtime.Exit {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.exit
}

func (i *Instance) endAfter(d time.Duration, exit runtime.Exit) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended || len(i.timers) >= 2 { // one for run_for, one for the first soft Terminate
		return
	}
	i.timers = append(i.timers, time.AfterFunc(d, func() { i.end(exit) }))
}

func (i *Instance) end(exit runtime.Exit) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	i.ended, i.exit = true, exit
	for _, timer := range i.timers {
		timer.Stop()
	}
	i.timers = nil
	i.owner.mu.Lock()
	delete(i.owner.live, i)
	i.owner.mu.Unlock()
	close(i.done)
}
