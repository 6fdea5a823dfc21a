package socket

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
	"github.com/jetway-project/jetway/messages"
)

// Config says whom to ask. Drone and Path have no default.
type Config struct {
	// Drone is the name of the drone: the server keeps apart what several have it run.
	Drone string
	// Path is the server's Unix socket.
	Path string
	// StateDir, made if need be, is where is noted how far the stream was read; "": nowhere.
	StateDir string
	// Log is silent by default.
	Log *slog.Logger
}

// maxPath is the longest path that a Unix socket can have.
const maxPath = 107

func checkPath(path string) error {
	if !filepath.IsAbs(path) || len(path) > maxPath || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("must be the absolute path of a Unix socket, of at most %d bytes, not %q", maxPath, path)
	}
	return nil
}

// Runtime has a server run backends. Make it with New.
type Runtime struct {
	config Config
	client *client
	// opened is closed when the stream may be read: see Find.
	open   sync.Once
	opened chan struct{}

	// ctx ends with Close, and with it all goroutines, which wg counts.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu   sync.Mutex
	live map[string]*Instance
	// over are those that have ended, and when, which the server has not forgotten yet.
	over map[string]time.Time
	// mark is up to where the stream was read.
	mark string
	// away is why nothing can be started; changed is closed when that changes.
	away    error
	changed chan struct{}
	// sleeps says that the server puts backends to sleep.
	sleeps bool
}

var (
	_ runtime.Adopter = (*Runtime)(nil)
	_ runtime.Remote  = (*Runtime)(nil)
)

// New returns a runtime, which the caller closes. The server need not be there yet.
func New(ctx context.Context, config Config) (*Runtime, error) {
	if err := checkPath(config.Path); err != nil {
		return nil, err
	}
	config.Log = cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	r := &Runtime{
		config: config, client: newClient(config.Path), opened: make(chan struct{}),
		live: map[string]*Instance{}, over: map[string]time.Time{},
		away: fmt.Errorf("the runtime at %s has not been heard yet", config.Path), changed: make(chan struct{}),
	}
	if config.StateDir != "" {
		if err := os.MkdirAll(config.StateDir, 0o700); err != nil {
			return nil, err
		}
		said, _ := os.ReadFile(r.markFile()) // without it, all that is kept is told again
		r.mark = string(said)
	}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	return r, nil
}

// Away says why nothing can be started, and gives what is closed when that changes.
func (r *Runtime) Away() (changed <-chan struct{}, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed, r.away
}

// one is what the server is told of a backend.
func (r *Runtime) one(spec runtime.Spec) one {
	return one{
		Drone: r.config.Drone, BackendID: spec.BackendID, Namespace: spec.Namespace, Key: spec.Key,
		Executable: spec.Executable, Env: spec.Env,
	}
}

// Prepare has the server prepare what is to run; its answer is lines of progress, and a last one.
func (r *Runtime) Prepare(ctx context.Context, spec runtime.Spec) error {
	resp, err := r.client.send(ctx, "prepare", r.one(spec))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return r.client.lines(ctx, "prepare", resp.Body, func(line []byte, _ bool) (bool, error) {
		var at struct {
			Progress, Error string
			Ready           bool
		}
		if err := json.Unmarshal(line, &at); err != nil {
			return false, fmt.Errorf("a line of its answer is not what it should be: %w: %.100q", err, line)
		}
		if at.Error != "" {
			return true, &refusal{text: at.Error}
		}
		if at.Progress != "" && spec.Progress != nil {
			spec.Progress(at.Progress)
		}
		return at.Ready, nil
	})
}

// Start has the server start a backend. If it cannot tell whether that was done, it has it ended first.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	select { // not before all is adopted, when the stream is opened
	case <-r.opened:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if _, away := r.Away(); away != nil {
		return nil, away
	}
	i := r.newInstance(spec)
	// From here on its end is seen, however soon it comes.
	if !r.add(i) {
		return nil, runtime.ErrClosed
	}
	var answer backend
	err := r.client.ask(ctx, "start", r.one(spec), &answer)
	if err == nil {
		err = i.learn(ctx, answer)
	}
	if err != nil {
		if !final(err) {
			r.undo(i)
		}
		i.finish(runtime.Exit{Code: -1})
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.known = true
	return i, nil
}

// undo ends what may have been started, and returns when nothing of it runs, nor ever will, or the
// runtime is closed: then the next run of the agent adopts it (I1).
func (r *Runtime) undo(i *Instance) {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for ended := i.done; ; {
		running, err := r.client.terminate(r.ctx, r.config.Drone, true, i.id)
		if err == nil && len(running) == 0 || r.ctx.Err() != nil {
			return
		}
		r.config.Log.Warn("a start failed, and what may run of it is not ended yet, trying again", "backend_id", i.id, "err", err)
		select {
		case <-again.C:
		case <-ended:
			ended = nil
		case <-r.ctx.Done():
		}
	}
}

// Demands goes by Plane's resource_limits, where an executable has some.
func (r *Runtime) Demands(raw json.RawMessage) runtime.Demands {
	var of struct {
		Limits *executable.Limits `json:"resource_limits"`
	}
	if messages.ReadJSON(raw, &of, false) != nil || of.Limits.Check() != nil {
		return runtime.Demands{}
	}
	return of.Limits.Demands()
}

// WithoutSecrets is the executable without its field credentials, as Plane has it.
func (r *Runtime) WithoutSecrets(raw json.RawMessage) (safe json.RawMessage, had bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return raw, false
	}
	if _, had = fields["credentials"]; !had {
		return raw, false
	}
	delete(fields, "credentials")
	return messages.Encode(fields), true
}

// find asks for backends, or for all of the drone.
func (r *Runtime) find(ctx context.Context, ids ...string) ([]backend, error) {
	var answer struct {
		Backends []backend `json:"backends"`
	}
	err := r.client.soon(ctx, "find", several{Drone: r.config.Drone, BackendIDs: ids, After: r.read()}, &answer)
	for _, b := range answer.Backends {
		if bad := messages.CheckBackendID(b.BackendID); err == nil && bad != nil {
			err = r.client.failed(ctx, "find", fmt.Errorf("it names a backend %.80q: %w", b.BackendID, bad))
		}
	}
	return answer.Backends, err
}

// Find lists the backends that the server knows of this drone. All that is remembered is adopted
// by then: the stream is opened.
func (r *Runtime) Find(ctx context.Context) ([]string, error) {
	found, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	r.open.Do(func() {
		r.goOn(r.follow)
		close(r.opened)
	})
	ids := make([]string, 0, len(found))
	for _, b := range found {
		ids = append(ids, b.BackendID)
	}
	return ids, nil
}

// errAgain says that a backend turned up that was thought not to be there.
var errAgain = errors.New("it has just been started, and is being ended")

// Adopt takes over what an earlier run had the server start.
func (r *Runtime) Adopt(ctx context.Context, spec runtime.Spec, _ string) (runtime.Instance, error) {
	i := r.newInstance(spec)
	found, err := r.find(ctx, spec.BackendID)
	if err != nil {
		return nil, err
	}
	for _, b := range found {
		if b.BackendID != spec.BackendID {
			continue
		}
		if err := i.learn(ctx, b); err != nil {
			return nil, err
		}
		i.known = true
		if !r.add(i) {
			return nil, runtime.ErrClosed
		}
		if b.Ended != nil {
			for _, w := range b.Output {
				i.write(w)
			}
			i.finish(b.Ended.exit())
		}
		return i, nil
	}
	// The start that the earlier run asked for may still be under way: it is not to be done any more (I1).
	running, err := r.client.terminate(ctx, r.config.Drone, true, spec.BackendID)
	if err == nil && len(running) > 0 {
		err = errAgain
	}
	if err != nil {
		return nil, err
	}
	i.finish(unknown)
	return i, nil
}

// unknown is how a backend ended that the server does not know.
var unknown = runtime.Exit{Code: -1, Message: "its runtime does not know it any more"}

// Close ends what the runtime does and leaves the backends. It may be called twice.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

// goOn runs f in a goroutine that Close waits for, unless it is closed already.
func (r *Runtime) goOn(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() == nil {
		r.wg.Go(f)
	}
}

// add looks after an instance from now on, unless the runtime is closed.
func (r *Runtime) add(i *Instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() == nil {
		r.live[i.id] = i
	}
	return r.ctx.Err() == nil
}
