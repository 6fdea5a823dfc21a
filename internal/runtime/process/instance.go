package process

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Instance is one process and the group that it leads.
type Instance struct {
	owner     *Runtime
	backendID string
	pid       int
	body      body
	handle    string
	port      int
	address   string
	streams   []*stream
	reading   sync.WaitGroup
	done      chan struct{}
	exit      runtime.Exit // written before done is closed

	mu sync.Mutex
	// over: from here on the numbers of the process and of its group may be others'.
	over bool
	// usage is the most processor time that was seen.
	usage time.Duration
}

var _ runtime.Instance = (*Instance)(nil)

// Address is where the process was told to listen.
func (i *Instance) Address() string { return i.address }

// PID is the process id, which is also the number of its group.
func (i *Instance) PID() int { return i.pid }

// Handle names the process, beyond the reuse of its number, and its port; "" where
// processes do not outlive the agent.
func (i *Instance) Handle() string { return i.handle }

// Usage is what the processes of the group use now, and for the processor time, what
// children have used that they have reaped.
func (i *Instance) Usage(context.Context) (runtime.Usage, error) {
	usage, err := i.owner.groups.usage(i.PID())
	if err != nil {
		return runtime.Usage{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return runtime.Usage{CPU: i.usage}, nil
	}
	// A child that ends takes its time along, unless its parent is of the group too.
	i.usage = max(i.usage, usage.CPU)
	usage.CPU = i.usage
	return usage, nil
}

// Terminate sends SIGTERM, or with hard set SIGKILL, to the whole group.
func (i *Instance) Terminate(_ context.Context, hard bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return nil
	}
	if hard {
		return i.body.signal(unix.SIGKILL)
	}
	if err := i.body.signal(unix.SIGTERM); err != nil {
		return err
	}
	return i.body.signal(unix.SIGCONT) // one that is stopped could not react
}

// Done is closed when the process has ended and its output is read.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Exit says how the process ended; it is the zero Exit before Done is closed.
func (i *Instance) Exit() runtime.Exit {
	select {
	case <-i.done:
		return i.exit
	default:
		return runtime.Exit{}
	}
}

// watch starts the goroutines that own the process until Done, or until letGo.
func (i *Instance) watch() {
	for _, stream := range i.streams {
		i.reading.Go(stream.run)
	}
	i.owner.watching.Go(i.await)
}

// await waits for the process, kills what it left, and closes Done.
func (i *Instance) await() {
	if i.body.wait() != nil { // let go: the process runs on
		i.reading.Wait()
		return
	}
	i.mu.Lock()
	// What it left in its group: the number is still the group's own here.
	killErr := i.body.signal(unix.SIGKILL)
	i.over = true
	i.mu.Unlock()
	i.exit = i.body.reap()
	if killErr != nil {
		i.exit.Message = fmt.Sprintf("end the process's children: %v", killErr)
	}
	i.owner.endEscaped(i.backendID)
	// Children that were killed close their ends of the pipes as they die, so
	// this also waits for them.
	deadline := time.Now().Add(i.owner.config.OutputGrace)
	for _, stream := range i.streams {
		stream.finish(deadline)
	}
	i.reading.Wait()
	i.owner.ended(i)
	close(i.done)
}

// letGo ends the watch over the process, which runs on.
func (i *Instance) letGo() {
	i.body.close()
	for _, stream := range i.streams {
		stream.pipe.Close()
	}
}
