package process

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// census lists the processes of a drone by the labels in their environments: for what no
// control group holds. Looking at every process of the machine takes some tens of µs each, so
// those who ask at the same time share one look.
//
// What was started with a directory that is gone is the drone's too: somebody restored its data directory, or removed it, and
// nobody else will ever look after that (I1).
type census struct {
	state string
	drone string // whose orphans are looked for; "": nobody's

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
	err := procs.Each(func(env procs.Env) bool {
		return env.Has(runtime.EnvState, c.state) || c.drone != "" && env.Has(runtime.EnvDrone, c.drone)
	}, func(process procs.ID, env procs.Env) {
		if !env.Has(runtime.EnvState, c.state) && !isOrphan(process, env) {
			return
		}
		if id, ok := env.Get(runtime.EnvBackendID); ok && process.PID != os.Getpid() {
			found[id] = append(found[id], process)
		}
	})
	if err == nil {
		c.at, c.found = at, found
	}
	return found, err
}

// isOrphan says whether the directory that a process was started with is not there any more, as the process sees it: it may be in a
// container.
func isOrphan(process procs.ID, env procs.Env) bool {
	path, ok := env.Get(runtime.EnvStateDir)
	if !ok || path == "" {
		return false
	}
	root := "/proc/" + strconv.Itoa(process.PID) + "/root"
	var dir unix.Stat_t
	if unix.Stat(root, &dir) != nil {
		return false // nobody lets us see
	}
	err := unix.Stat(root+path, &dir)
	return errors.Is(err, unix.ENOENT) || err == nil && !env.Has(runtime.EnvState, numberOf(dir))
}
