package process

import (
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// found is what runs of one backend.
type found struct {
	processes []procs.ID
	// port is the one that it was told to listen on, 0 if that cannot be told.
	port int
}

// census lists the processes of a drone by the labels in their environments. Looking at
// every process of the machine takes some tens of µs each, so those who ask at the same time
// share one look: the end of a thousand backends costs a few.
type census struct {
	drone, state string

	looking sync.Mutex // held during a look

	mu   sync.Mutex
	next *look // not begun
}

type look struct {
	done  chan struct{}
	found map[string]found
	err   error
}

// take returns the result of a look that began after the call, by backend. It must not
// be changed.
func (c *census) take() (map[string]found, error) {
	c.mu.Lock()
	l := c.next
	mine := l == nil
	if mine {
		l = &look{done: make(chan struct{}), found: map[string]found{}}
		c.next = l
	}
	c.mu.Unlock()
	if mine {
		c.looking.Lock()
		c.mu.Lock()
		c.next = nil // who asks from here on asks for the next one
		c.mu.Unlock()
		l.err = procs.Each(c.is, l.add)
		c.looking.Unlock()
		close(l.done)
	}
	<-l.done
	return l.found, l.err
}

// is says that a process is this drone's, and not of another one with its name.
func (c *census) is(env procs.Env) bool {
	return env.Has(runtime.EnvDrone, c.drone) && env.Has(runtime.EnvState, c.state)
}

func (l *look) add(process procs.ID, env procs.Env) {
	id, ok := env.Get(runtime.EnvBackendID)
	if !ok || process.PID == os.Getpid() {
		return
	}
	f := l.found[id]
	f.processes = append(f.processes, process)
	if text, ok := env.Get("PORT"); ok && f.port == 0 {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			f.port = int(port)
		}
	}
	l.found[id] = f
}

// escapedAgain is how soon it is looked again after what was killed.
const escapedAgain = 10 * time.Millisecond

// endEscaped kills what is left of a backend whose process has ended: children that left
// its group and kept its environment. It returns when nothing is found any more (I1), or
// when the runtime is closed.
func (r *Runtime) endEscaped(backendID string) {
	if !r.outlives() {
		return
	}
	for again := escapedAgain; ; again = min(again*2, time.Second) {
		census, err := r.census.take()
		left := census[backendID].processes
		if err == nil && len(left) == 0 {
			return
		}
		for _, process := range left {
			killOne(process)
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-r.closing:
			timer.Stop()
			return
		}
	}
}

// killOne kills a process, if it is still there. What it says does not matter: whether
// it has ended is seen at the next look.
func killOne(process procs.ID) {
	ref, err := procs.Open(process)
	if err != nil {
		return
	}
	defer ref.Close()
	_ = ref.Signal(9)
}
