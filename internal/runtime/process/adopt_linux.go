package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
	"github.com/jetway-project/jetway/messages"
)

// lasting is a Runtime whose processes outlive the agent.
type lasting struct{ *Runtime }

var _ runtime.Adopter = lasting{}

// open makes ready what depends on this system.
func (r *Runtime) open() (_ runtime.Runtime, err error) {
	if r.boot, err = boottime.BootID(); err != nil {
		return nil, err
	}
	var dir unix.Stat_t
	if err := unix.Stat(r.config.Dir, &dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDir, err)
	}
	name := "dev"
	if r.outlives() {
		if err := unix.Stat(r.config.StateDir, &dir); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDir, err)
		}
		name = r.config.Drone
		if r.stateDir, err = filepath.Abs(r.config.StateDir); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDir, err)
		}
		r.census.drone = name
	}
	// It stays the same while anything can run that was started with it: for this boot.
	r.state = numberOf(dir)
	r.census.state = r.state
	if err := r.pens.open(r.config.Cgroup, name+"."+strings.ReplaceAll(r.state, ":", ".")); err != nil {
		return nil, err
	}
	if !r.outlives() {
		return r, nil
	}
	if r.config.Landlock {
		r.landlock = findLandlock()
	}
	adopter := lasting{r}
	if err := adopter.removeLeft(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDir, err)
	}
	return adopter, nil
}

// numberOf tells a directory from all others.
func numberOf(dir unix.Stat_t) string { return fmt.Sprintf("%d:%d", dir.Dev, dir.Ino) }

// handle is what a process is found by: the kernel's name of it, for this boot; where it
// listens, whose it is, and its control group, "" without.
type handle struct {
	id    procs.ID
	port  int
	boot  string
	user  int
	group string
}

func (h handle) String() string {
	return fmt.Sprintf("%d %d %d %s %d %s", h.id.PID, h.id.Start, h.port, h.boot, h.user, h.group)
}

// parseHandle also reads what earlier versions wrote, without user and group.
func parseHandle(text string) (h handle, ok bool) {
	h.user = nobodyElse
	words := strings.SplitN(text, " ", 6)
	if n, err := fmt.Sscan(text, &h.id.PID, &h.id.Start, &h.port, &h.boot); err != nil || n != 4 {
		return h, false
	}
	if len(words) == 6 {
		h.group = words[5]
		var err error
		if h.user, err = strconv.Atoi(words[4]); err != nil {
			return h, false
		}
	}
	return h, h.id.PID > 0 && h.port > 0 && h.port < 1<<16
}

// note writes a handle down, for an agent that died before its journal had it. Without the
// note, what runs is ended instead of adopted.
func (r *Runtime) note(backendID string, h handle) {
	_ = os.WriteFile(r.noteOf(backendID), []byte(h.String()), 0o600)
}

func (r *Runtime) noteOf(backendID string) string {
	return filepath.Join(r.config.StateDir, backendID+".handle")
}

// find reads a handle of this boot, given or noted.
func (r lasting) find(backendID, text string) (h handle, ok bool) {
	if text == "" {
		raw, _ := os.ReadFile(r.noteOf(backendID))
		text = string(raw)
	}
	h, ok = parseHandle(text)
	return h, ok && h.boot == r.boot
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
	h, ok := r.find(spec.BackendID, text)
	instance := &Instance{
		owner: r.Runtime, backendID: spec.BackendID, done: make(chan struct{}),
		user: h.user, home: r.homeOf(spec.BackendID), body: body{pen: r.penOf(spec.BackendID, h.group)},
	}
	if !ok {
		return r.gone(instance), nil
	}
	instance.port = h.port
	ref, err := procs.Open(h.id)
	if errors.Is(err, procs.ErrGone) {
		return r.gone(instance), nil
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
	r.users.use(h.user)
	instance.pid, instance.body.ref, instance.handle = ref.PID, ref, h.String()
	instance.asleep = true // it may be, by that run
	instance.prepare(spec, readers)
	return instance, r.add(instance)
}

// gone is the instance of a process that has ended, or never was. What is left of it is
// killed before its Done is closed.
func (r lasting) gone(instance *Instance) *Instance {
	instance.over = true
	instance.exit = runtime.Exit{Code: -1, Message: "it ended while no agent ran, and left no exit code"}
	r.watching.Go(func() {
		if err := instance.body.pen.kill(); err != nil {
			instance.exit.Message = err.Error()
		}
		instance.finish()
	})
	return instance
}

// Find lists the backends of this drone of which anything runs: those that have files in the
// state directory, as they do from before their start, and those whose labels are found.
func (r lasting) Find(context.Context) (backendIDs []string, err error) {
	running, err := r.runningNow()
	for id := range running {
		backendIDs = append(backendIDs, id)
	}
	return backendIDs, err
}

func (r lasting) runningNow() (map[string]bool, error) {
	running := map[string]bool{}
	census, err := r.census.take(0)
	if err != nil {
		return nil, err
	}
	for id := range census {
		running[id] = true
	}
	entries, err := os.ReadDir(r.config.StateDir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		id, _, _ := strings.Cut(entry.Name(), ".")
		if running[id] || messages.CheckBackendID(id) != nil {
			continue
		}
		h, _ := r.find(id, "")
		populated, err := cgroup.Populated(r.penOf(id, h.group).dir())
		if err != nil {
			return nil, err
		}
		if populated {
			running[id] = true
		}
	}
	return running, nil
}

// removeLeft removes what backends have left of which nothing runs.
func (r lasting) removeLeft() error {
	running, err := r.runningNow()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(r.config.StateDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if id, _, ok := strings.Cut(entry.Name(), "."); ok && !running[id] && messages.CheckBackendID(id) == nil {
			home(filepath.Join(r.config.StateDir, entry.Name())).remove()
			r.penOf(id, "").remove()
		}
	}
	return nil
}

// WithoutSecrets is the executable as it is: it holds no credentials.
func (r lasting) WithoutSecrets(executable json.RawMessage) (safe json.RawMessage, had bool) {
	return executable, false
}
