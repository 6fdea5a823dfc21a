package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
	"github.com/jetway-project/jetway/messages"
)

// Instance is one backend that the server runs.
type Instance struct {
	r       *Runtime
	id      string
	address string
	pid     int
	// known says that a listing has to name it, if it runs. Guarded by r.mu.
	known bool
	done  chan struct{}

	mu    sync.Mutex // guards lines, and that no line comes after done
	lines map[runtime.Stream]*output.Lines
	exit  runtime.Exit // written before done is closed

	// woken is called when the server says that it is awake; nil: it was not put to sleep.
	woken atomic.Pointer[func()]
}

var _ runtime.Instance = (*Instance)(nil)

func (r *Runtime) newInstance(spec runtime.Spec) *Instance {
	i := &Instance{r: r, id: spec.BackendID, done: make(chan struct{}), lines: map[runtime.Stream]*output.Lines{}}
	for _, stream := range []runtime.Stream{runtime.Stdout, runtime.Stderr, runtime.Notice} {
		i.lines[stream] = output.New(stream, spec.Log, output.LinesPerSecond, output.BytesPerSecond)
	}
	return i
}

// learn takes where the server says that a backend is.
func (i *Instance) learn(ctx context.Context, b backend) error {
	if b.Address != "" {
		host, port, err := net.SplitHostPort(b.Address)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || n == 0 || host == "" || len(b.Address) > messages.MaxName {
			return i.r.client.failed(ctx, "start", fmt.Errorf("the address of the backend must be host:port, not %.80q", b.Address))
		}
	}
	if b.PID < 0 || b.PID == 1 || b.PID == os.Getpid() {
		return i.r.client.failed(ctx, "start", fmt.Errorf("pid %d cannot be that of a backend", b.PID))
	}
	i.address, i.pid = b.Address, b.PID
	return nil
}

// Address is where the server says that the backend listens.
func (i *Instance) Address() string { return i.address }

// Handle is the backend's id: the server knows it by that.
func (i *Instance) Handle() string { return i.id }

// PID is the process of this machine that the server says the backend is, or 0.
func (i *Instance) PID() int { return i.pid }

// Done is closed when the server has said that the backend ended.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Exit says how it ended.
func (i *Instance) Exit() runtime.Exit {
	if !runtime.Over(i.done) {
		return runtime.Exit{}
	}
	return i.exit
}

// Terminate asks the server to end it.
func (i *Instance) Terminate(ctx context.Context, hard bool) error {
	if runtime.Over(i.done) {
		return nil
	}
	_, err := i.r.client.terminate(ctx, i.r.config.Drone, hard, i.id)
	return err
}

// Usage asks the server.
func (i *Instance) Usage(ctx context.Context) (runtime.Usage, error) {
	var u struct {
		CPU            time.Duration `json:"cpu_ns"`
		MemUsed        uint64        `json:"mem_used"`
		MemActive      uint64        `json:"mem_active"`
		MemInactive    uint64        `json:"mem_inactive"`
		MemUnevictable uint64        `json:"mem_unevictable"`
		MemLimit       uint64        `json:"mem_limit"`
	}
	err := i.r.client.soon(ctx, "usage", several{Drone: i.r.config.Drone, BackendIDs: []string{i.id}}, &u)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusNotImplemented {
		err = errors.Join(errors.ErrUnsupported, err)
	}
	return runtime.Usage{
		CPU: u.CPU, MemUsed: u.MemUsed, MemActive: u.MemActive, MemInactive: u.MemInactive,
		MemUnevictable: u.MemUnevictable, MemLimit: u.MemLimit,
	}, err
}

// write passes a line on, if it is of a stream that there is and the backend has not ended.
func (i *Instance) write(w written) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if lines := i.lines[w.Stream]; lines != nil && w.Line != nil && !runtime.Over(i.done) {
		_, _ = lines.Write([]byte(*w.Line + "\n"))
	}
}

// notify passes on that lines were dropped, also while the backend is silent.
func (i *Instance) notify(now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, lines := range i.lines {
		if !runtime.Over(i.done) {
			lines.Notify(now)
		}
	}
}

// finish ends the instance once, for whoever hears of it first.
func (i *Instance) finish(exit runtime.Exit) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if runtime.Over(i.done) {
		return
	}
	for _, lines := range i.lines {
		lines.End()
	}
	i.r.mu.Lock()
	delete(i.r.live, i.id)
	i.r.over[i.id] = time.Now()
	i.r.mu.Unlock()
	i.exit = exit
	close(i.done)
}
