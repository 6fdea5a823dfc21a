package process

import (
	"os"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// census lists the processes of a drone by the labels in their environments: for what no
// control group holds. Looking at every process of the machine takes some tens of µs each, so
// those who ask at the same time share one look.
type census struct {
	state string

	mu    sync.Mutex
	at    time.Time // when the last look began
	found map[string][]procs.ID
}

// take returns the result of a look that began after the call, or at most so long before it,
// by backend. It must not be changed.
func (c *census) take(age time.Duration) (map[string][]procs.ID, error) {
	earliest := time.Now().Add(-age)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.After(earliest) {
		return c.found, nil
	}
	at, found := time.Now(), map[string][]procs.ID{}
	err := procs.Each(func(env procs.Env) bool { return env.Has(runtime.EnvState, c.state) }, func(process procs.ID, env procs.Env) {
		if id, ok := env.Get(runtime.EnvBackendID); ok && process.PID != os.Getpid() {
			found[id] = append(found[id], process)
		}
	})
	if err == nil {
		c.at, c.found = at, found
	}
	return found, err
}
