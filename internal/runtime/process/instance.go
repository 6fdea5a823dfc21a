package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
)

// Instance is one process, and all that it starts.
type Instance struct {
	owner     *Runtime
	backendID string
	body      body
	pid       int
	handle    string
	port      int
	user      int
	home      home
	// memory is the limit that the request names, 0 if none.
	memory  int64
	streams []*stream
	done    chan struct{}
	exit    runtime.Exit // written before done is closed

	mu sync.Mutex
	// over: from here on the number of the process may be another's. killed: by us.
	over, killed bool
	// usage is the most processor time that was seen.
	usage  time.Duration
	onDone func()
	// asleep says that it may be frozen, and sentry watches over that.
	asleep bool
	sentry sentry
}

var _ runtime.Instance = (*Instance)(nil)

// prepare gives it the output of its process.
func (i *Instance) prepare(spec runtime.Spec, readers []*os.File) {
	for n, reader := range readers {
		if reader == nil {
			continue
		}
		i.streams = append(i.streams, &stream{
			pipe:  reader,
			lines: output.New(streamNames[n], spec.Log, i.owner.config.LogLines, i.owner.config.LogBytes),
		})
	}
}

// Address is where the process was told to listen.
func (i *Instance) Address() string { return i.owner.ports.address(i.port) }

// PID is the process id, which is also the number of its group.
func (i *Instance) PID() int { return i.pid }

// Handle names the process, beyond the reuse of its number, its port, its user and its
// control group; "" where processes do not outlive the agent.
func (i *Instance) Handle() string { return i.handle }

// Usage is what the backend uses now, and has used of the processor.
func (i *Instance) Usage(context.Context) (runtime.Usage, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return runtime.Usage{CPU: i.usage}, nil
	}
	usage, err := i.body.usage()
	// Without a control group, what ends takes its time along.
	i.usage = max(i.usage, usage.CPU)
	usage.CPU = i.usage
	return usage, err
}

// Terminate sends SIGTERM to the process group, or with hard set ends all that there is.
func (i *Instance) Terminate(_ context.Context, hard bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return nil
	}
	if hard {
		i.relieve()
		i.killed = true
		return i.body.kill()
	}
	// What is frozen, or was stopped by somebody, could not react.
	return errors.Join(i.wake(), i.body.signal(unix.SIGTERM), i.body.signal(unix.SIGCONT))
}

// Done is closed when nothing of the backend runs and its output is read.
func (i *Instance) Done() <-chan struct{} { return i.done }

// OnDone has f called when Done is closed, at once if it is.
func (i *Instance) OnDone(f func()) {
	i.mu.Lock()
	i.onDone = f
	i.mu.Unlock()
	i.tell()
}

// tell calls who is to be told of the end, once.
func (i *Instance) tell() {
	i.mu.Lock()
	f, over := i.onDone, runtime.Over(i.done)
	if over {
		i.onDone = nil
	}
	i.mu.Unlock()
	if over && f != nil {
		f()
	}
}

// Exit says how the process ended; it is the zero Exit before Done is closed.
func (i *Instance) Exit() runtime.Exit {
	if !runtime.Over(i.done) {
		return runtime.Exit{}
	}
	return i.exit
}

// watch has its output read and its end seen, until letGo.
func (i *Instance) watch() (err error) {
	for _, stream := range i.streams {
		if stream.id, err = i.owner.poller.add(int(stream.pipe.Fd()), false, stream.heard); err != nil {
			return err
		}
	}
	return i.owner.onEnd(i.body, func() { i.owner.watching.Go(i.end) })
}

// end ends what a process that has ended left, and closes Done.
func (i *Instance) end() {
	i.mu.Lock()
	if usage, err := i.body.usage(); err == nil {
		i.usage = max(i.usage, usage.CPU)
	}
	killErr := i.body.kill()
	i.over = true
	i.relieve()
	i.mu.Unlock()
	i.exit = i.body.reap()
	if i.exit.Signal == "SIGKILL" && !i.killed && i.body.outOfMemory() {
		i.exit.Message = "out of memory"
		if i.memory > 0 { // what an earlier run of the agent started has told that one
			i.exit.Message = fmt.Sprintf("out of memory: the limit is %d bytes", i.memory)
		}
	}
	if killErr != nil {
		i.exit.Message = fmt.Sprintf("end the process's children: %v", killErr)
	}
	i.finish()
}

// finish closes Done once nothing of the backend runs (I1), unless the Runtime is closed
// before.
func (i *Instance) finish() {
	if !i.body.empty() {
		i.letGo()
		return
	}
	// What was killed has closed its ends of the pipes.
	deadline := time.Now().Add(i.owner.config.OutputGrace)
	for _, stream := range i.streams {
		stream.finish(i.owner.poller, deadline)
	}
	i.body.remove()
	i.owner.ended(i)
	close(i.done)
	i.tell()
	i.home.remove()
}

// letGo ends the watch over the process, which runs on.
func (i *Instance) letGo() {
	i.mu.Lock()
	i.relieve()
	i.mu.Unlock()
	i.body.close()
	for _, stream := range i.streams {
		stream.letGo(i.owner.poller)
	}
}
