package process

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
	"github.com/jetway-project/jetway/messages"
)

// Runtime runs executables below one directory. Make it with New.
type Runtime struct {
	config Config
	ports  *ports
	forker *forker
	// state is the number of Config.StateDir, where processes are known by it.
	state  string
	groups groups
	system

	// watching are the goroutines that wait for the ends of instances.
	watching sync.WaitGroup
	// closing is closed when Close lets go of processes.
	closing chan struct{}

	mu     sync.Mutex
	closed bool
	starts sync.WaitGroup // Starts under way
	live   map[*Instance]struct{}
}

var _ runtime.Runtime = (*Runtime)(nil)

// New checks the configuration and returns a runtime, which the caller closes. With
// Config.StateDir set it is a runtime.Adopter, on Linux.
func New(config Config) (runtime.Runtime, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		config:  config,
		ports:   newPorts(config.Host, config.PortRest),
		closing: make(chan struct{}),
		live:    map[*Instance]struct{}{},
	}
	opened, err := r.open()
	if err != nil {
		return nil, err
	}
	r.forker = newForker()
	return opened, nil
}

// Prepare checks that the executable of the spec can be run.
func (r *Runtime) Prepare(_ context.Context, spec runtime.Spec) error {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return runtime.ErrClosed
	}
	parsed, err := parse(spec.Executable)
	if err != nil {
		return err
	}
	_, err = resolve(r.config.Root, string(parsed.Command[0]))
	return err
}

// begin lets a Start under way end before Close does; the caller calls starts.Done.
func (r *Runtime) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return runtime.ErrClosed
	}
	r.starts.Add(1)
	return nil
}

// Start checks the spec once more, since the disk may have changed, and starts
// the process.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.starts.Done()

	parsed, err := parse(spec.Executable)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if r.outlives() {
		if err := messages.CheckBackendID(spec.BackendID); err != nil {
			return nil, err
		}
		if r.running(spec.BackendID) != nil {
			return nil, fmt.Errorf("the backend %s runs already", spec.BackendID)
		}
	}
	path, err := resolve(r.config.Root, string(parsed.Command[0]))
	if err != nil {
		return nil, err
	}
	port, err := r.ports.take()
	if err != nil {
		return nil, err
	}
	instance, err := r.launch(spec, parsed, path, port)
	if err != nil {
		r.ports.release(port, false)
		return nil, err
	}
	return instance, nil
}

func (r *Runtime) launch(spec runtime.Spec, parsed command, path string, port int) (*Instance, error) {
	readers, writers, err := r.openStreams(spec.BackendID)
	if err != nil {
		return nil, err
	}
	defer closeAll(writers) // the process has its own
	instance := r.newInstance(spec, port, readers)
	instance.body, instance.handle, err = r.exec(program{
		path: path, args: r.arguments(parsed), env: r.environment(spec, parsed, port), dir: r.config.Dir,
	}, writers, port)
	if err != nil {
		closeAll(readers)
		r.removeStreams(spec.BackendID)
		return nil, fmt.Errorf("executable: command[0] %.200q cannot be started: %w", parsed.Command[0], reason(err))
	}
	instance.pid = instance.body.pid()
	r.add(instance)
	return instance, nil
}

// exec starts the program with an empty standard input.
func (r *Runtime) exec(p program, writers []*os.File, port int) (b body, handle string, err error) {
	empty, err := os.Open(os.DevNull)
	if err != nil {
		return b, "", err
	}
	defer empty.Close()
	p.files = []uintptr{empty.Fd()}
	for _, writer := range writers {
		// As programs expect it: a write to a full pipe waits.
		if err := unix.SetNonblock(int(writer.Fd()), false); err != nil {
			return b, "", err
		}
		p.files = append(p.files, writer.Fd())
	}
	return r.fork(p, port)
}

func (r *Runtime) newInstance(spec runtime.Spec, port int, readers []*os.File) *Instance {
	instance := &Instance{
		owner: r, backendID: spec.BackendID, port: port, address: r.ports.address(port), done: make(chan struct{}),
	}
	for n, reader := range readers {
		if reader == nil {
			continue
		}
		instance.streams = append(instance.streams, &stream{
			pipe:  reader,
			lines: output.New(streamNames[n], spec.Log, r.config.LogLines, r.config.LogBytes),
		})
	}
	return instance
}

// add begins to watch over an instance that runs.
func (r *Runtime) add(instance *Instance) {
	r.mu.Lock()
	r.live[instance] = struct{}{}
	r.mu.Unlock()
	instance.watch()
}

// running is the instance of a backend that has not ended, or nil.
func (r *Runtime) running(backendID string) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	for instance := range r.live {
		if instance.backendID == backendID {
			return instance
		}
	}
	return nil
}

// arguments gives the program its name as the request has it, made absolute, so
// that one program under several names can tell them apart.
func (r *Runtime) arguments(parsed command) []string {
	args := []string{filepath.Join(r.config.Root, string(parsed.Command[0]))}
	for _, word := range parsed.Command[1:] {
		args = append(args, string(word))
	}
	return args
}

// environment is all that the process sees: later sources win over earlier ones.
func (r *Runtime) environment(spec runtime.Spec, parsed command, port int) []string {
	env := map[string]string{"PATH": r.config.Path, "HOME": r.config.Dir, "TMPDIR": r.config.TempDir}
	for name, value := range parsed.Env {
		env[string(name)] = string(value)
	}
	maps.Copy(env, spec.Env)
	if r.config.Drone != "" {
		env[runtime.EnvDrone] = r.config.Drone
	}
	if r.state != "" {
		env[runtime.EnvState] = r.state
	}
	env["PORT"] = strconv.Itoa(port)
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// ended forgets an instance that has ended.
func (r *Runtime) ended(instance *Instance) {
	r.removeStreams(instance.backendID)
	r.mu.Lock()
	delete(r.live, instance)
	r.mu.Unlock()
	r.ports.release(instance.port, true)
}

// Demands is nothing: a process names no limits.
func (r *Runtime) Demands(json.RawMessage) runtime.Demands { return runtime.Demands{} }

// Close lets go of processes that outlive the agent. All others it kills, and waits for
// their end. Starts that are under way end first; later ones get runtime.ErrClosed.
func (r *Runtime) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	r.starts.Wait()
	if first && r.outlives() {
		close(r.closing)
	}
	r.mu.Lock()
	live := slices.Collect(maps.Keys(r.live))
	r.mu.Unlock()
	for _, instance := range live {
		if r.outlives() {
			instance.letGo()
			continue
		}
		if err := instance.Terminate(context.Background(), true); err != nil {
			return err
		}
	}
	r.watching.Wait()
	r.ports.close()
	// Only now: the end of its thread kills processes that do not outlive the agent.
	r.forker.close()
	return nil
}
