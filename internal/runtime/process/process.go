package process

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
)

// Runtime runs executables below one directory. Make it with New.
type Runtime struct {
	config Config
	ports  *ports
	forker *forker

	mu     sync.Mutex
	closed bool
	starts sync.WaitGroup // Starts under way
	live   map[*Instance]struct{}
}

var _ runtime.Runtime = (*Runtime)(nil)

// New checks the configuration and returns a runtime, which the caller closes.
func New(config Config) (*Runtime, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Runtime{
		config: config,
		ports:  newPorts(config.Host, config.PortRest),
		forker: newForker(),
		live:   map[*Instance]struct{}{},
	}, nil
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

// Start checks the spec once more, since the disk may have changed, and starts
// the process.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, runtime.ErrClosed
	}
	r.starts.Add(1)
	r.mu.Unlock()
	defer r.starts.Done()

	parsed, err := parse(spec.Executable)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
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
	cmd := &exec.Cmd{
		Path: path,
		Args: r.arguments(parsed),
		Env:  r.environment(spec, parsed, port),
		Dir:  r.config.Dir,
	}
	instance := &Instance{
		owner: r, cmd: cmd, port: port, address: r.ports.address(port),
		pidfd: -1, done: make(chan struct{}),
	}
	setAttributes(cmd, &instance.pidfd)
	writers, err := instance.openOutputs(spec.Log)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = writers[0], writers[1]
	err = r.forker.start(cmd)
	for _, writer := range writers {
		writer.Close() // the process has its own
	}
	if err != nil {
		for _, output := range instance.outputs {
			output.pipe.Close()
		}
		return nil, fmt.Errorf("executable: command[0] %.200q cannot be started: %w", parsed.Command[0], reason(err))
	}
	r.mu.Lock()
	r.live[instance] = struct{}{}
	r.mu.Unlock()
	instance.watch()
	return instance, nil
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
	env["PORT"] = strconv.Itoa(port)
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// openOutputs makes a pipe per stream and returns the ends that the process gets.
func (i *Instance) openOutputs(log func(runtime.Line)) ([]*os.File, error) {
	var writers []*os.File
	for _, name := range []runtime.Stream{runtime.Stdout, runtime.Stderr} {
		reader, writer, err := os.Pipe()
		if err != nil {
			for n, opened := range i.outputs {
				opened.pipe.Close()
				writers[n].Close()
			}
			return nil, fmt.Errorf("open a pipe for %s: %w", name, err)
		}
		writers = append(writers, writer)
		i.outputs = append(i.outputs, &stream{
			pipe:  reader,
			lines: output.New(name, log, i.owner.config.LogLines, i.owner.config.LogBytes),
		})
	}
	return writers, nil
}

// ended forgets an instance that has ended.
func (r *Runtime) ended(instance *Instance) {
	r.mu.Lock()
	delete(r.live, instance)
	r.mu.Unlock()
	r.ports.release(instance.port, true)
}

// Demands is nothing: a process names no limits.
func (r *Runtime) Demands(json.RawMessage) runtime.Demands { return runtime.Demands{} }

// Close kills every process and waits for its end. Starts that are under way end
// first; later ones get runtime.ErrClosed.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.starts.Wait()
	r.mu.Lock()
	live := make([]*Instance, 0, len(r.live))
	for instance := range r.live {
		live = append(live, instance)
	}
	r.mu.Unlock()
	for _, instance := range live {
		if err := instance.Terminate(context.Background(), true); err != nil {
			return err
		}
	}
	for _, instance := range live {
		<-instance.Done()
	}
	// Only now: the end of its thread kills the processes that it started.
	r.forker.close()
	return nil
}
