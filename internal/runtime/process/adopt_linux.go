package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// lasting is a Runtime whose processes outlive the agent.
type lasting struct{ *Runtime }

var _ runtime.Adopter = lasting{}

// open makes ready what depends on this system.
func (r *Runtime) open() (runtime.Runtime, error) {
	if !r.outlives() {
		return r, nil
	}
	if err := r.openState(); err != nil {
		return nil, fmt.Errorf("process state directory: %w", err)
	}
	return lasting{r}, nil
}

// openState sets the ports of processes that run aside, until they are adopted, and
// removes what those that have ended have left.
func (r *Runtime) openState() error {
	var err error
	if r.boot, err = boottime.BootID(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.config.StateDir, 0o700); err != nil {
		return err
	}
	var dir unix.Stat_t
	if err := unix.Stat(r.config.StateDir, &dir); err != nil {
		return err
	}
	// It stays the same while anything can run that was started with it: for this boot.
	r.state = fmt.Sprintf("%d:%d", dir.Dev, dir.Ino)
	r.census.drone, r.census.state = r.config.Drone, r.state
	running, err := r.census.take()
	if err != nil {
		return err
	}
	for _, f := range running {
		r.ports.setAside(f.port)
	}
	return r.removeLeftFIFOs(running)
}

// handle is what a process is found by: the kernel's name of it, for this boot, and
// where it listens.
type handle struct {
	id   procs.ID
	port int
	boot string
}

const handleForm = "%d %d %d %s"

func (h handle) String() string {
	return fmt.Sprintf(handleForm, h.id.PID, h.id.Start, h.port, h.boot)
}

func parseHandle(text string) (h handle, ok bool) {
	n, err := fmt.Sscanf(text, handleForm, &h.id.PID, &h.id.Start, &h.port, &h.boot)
	return h, err == nil && n == 4 && h.id.PID > 0 && h.port > 0 && h.port < 1<<16
}

// Adopt takes over a process that an earlier run of the agent has started. Of one that
// has ended what is left is killed. One that runs under this Runtime already is given
// as it is.
func (r lasting) Adopt(ctx context.Context, spec runtime.Spec, text string) (runtime.Instance, error) {
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.starts.Done()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("adopt: %w", context.Cause(ctx))
	}
	if err := messages.CheckBackendID(spec.BackendID); err != nil {
		return nil, err
	}
	if instance := r.running(spec.BackendID); instance != nil {
		return instance, nil
	}
	h, ref, err := r.find(spec.BackendID, text)
	if errors.Is(err, procs.ErrGone) {
		return r.gone(spec.BackendID), nil
	}
	if err != nil {
		return nil, err
	}
	readers, err := r.openFIFOs(spec.BackendID)
	if err != nil {
		ref.Close()
		return nil, err
	}
	r.ports.use(h.port)
	instance := r.newInstance(spec, h.port, readers)
	instance.pid, instance.body, instance.handle = ref.PID, body{ref: ref}, h.String()
	r.add(instance)
	return instance, nil
}

// find finds a process by its handle, or without one of this boot, by its labels. It
// gives procs.ErrGone when there is none.
func (r lasting) find(backendID, text string) (handle, *procs.Ref, error) {
	h, ok := parseHandle(text)
	if !ok {
		var err error
		if h, err = r.leader(backendID); err != nil {
			return h, nil, err
		}
	}
	if h.boot != r.boot {
		return h, nil, procs.ErrGone
	}
	ref, err := procs.Open(h.id)
	return h, ref, err
}

// leader finds the process that leads a backend's group: the first one, if there is
// more than one. A child that left the group with setsid leads one too, but of its own
// session, which the first process cannot: who leads a group cannot make a session.
func (r lasting) leader(backendID string) (h handle, err error) {
	census, err := r.census.take()
	if err != nil {
		return h, err
	}
	found := census[backendID]
	h = handle{port: found.port, boot: r.boot}
	for _, id := range found.processes {
		stat, err := procs.Read(id.PID)
		if err != nil || stat.ID != id || stat.Group != id.PID || stat.Session == id.PID {
			continue
		}
		if h.id.PID == 0 || id.Start < h.id.Start {
			h.id = id
		}
	}
	if h.id.PID == 0 || h.port == 0 {
		return h, procs.ErrGone
	}
	return h, nil
}

// gone is the instance of a process that has ended, or never was. What is left of it is
// killed before its Done is closed.
func (r lasting) gone(backendID string) *Instance {
	instance := &Instance{owner: r.Runtime, backendID: backendID, done: make(chan struct{}), over: true, exit: runtime.Exit{
		Code: -1, Message: "it ended while no agent ran, and left no exit code",
	}}
	r.watching.Go(func() {
		r.endEscaped(backendID)
		r.removeStreams(backendID)
		close(instance.done)
	})
	return instance
}

// Find lists the backends of this drone of which anything runs.
func (r lasting) Find(context.Context) (backendIDs []string, err error) {
	census, err := r.census.take()
	for id := range census {
		backendIDs = append(backendIDs, id)
	}
	return backendIDs, err
}

// WithoutSecrets is the executable as it is: it holds no credentials.
func (r lasting) WithoutSecrets(executable json.RawMessage) (safe json.RawMessage, had bool) {
	return executable, false
}
