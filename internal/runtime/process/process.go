package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// Runtime runs executables below one directory. Make it with New.
type Runtime struct {
	config Config
	ports  *ports
	users  *users
	forker *forker
	poller *poller
	// state is the number of Config.StateDir, where processes are known by it.
	state string
	// stateDir is its path, where processes may outlive the agent.
	stateDir string
	// temporary is the directory of the backends, where the Runtime has made one for itself.
	temporary string
	system

	// watching are the goroutines that make an end of instances.
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
	if r.users, err = parseUsers(config.User); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUser, err)
	}
	if err := r.makeDirs(); err != nil {
		return nil, err
	}
	opened, err := r.open()
	if err == nil {
		r.poller, err = newPoller()
	}
	if err != nil {
		home(r.temporary).remove()
		return nil, err
	}
	r.forker = newForker()
	return opened, nil
}

// What of a Config cannot be used as things are, where it is not Config.Root.
var (
	ErrUser   = errors.New("process user")
	ErrCgroup = errors.New("cgroup")
	ErrHost   = errors.New("process host")
	ErrDir    = errors.New("directory of the backends") // Config.StateDir or Config.Dir
)

// makeDirs makes the directory below which backends have theirs.
func (r *Runtime) makeDirs() error {
	mode := fs.FileMode(0o700)
	if r.users != nil {
		mode = 0o711 // its users get to what is theirs, and see nothing else
	}
	var err error
	switch {
	case r.config.StateDir != "":
		if err = os.MkdirAll(r.config.StateDir, mode); err == nil {
			err = os.Chmod(r.config.StateDir, mode)
		}
	case r.config.Dir == "":
		if r.temporary, err = os.MkdirTemp("", "jetway-backends-"); err == nil {
			r.config.Dir, err = r.temporary, os.Chmod(r.temporary, mode)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDir, err)
	}
	for _, dir := range []string{r.config.Dir, r.config.Root} {
		if err := r.users.reach(dir); err != nil {
			return fmt.Errorf("%w: %w", ErrUser, err)
		}
	}
	return nil
}

// Prepare checks that the executable of the spec can be run.
func (r *Runtime) Prepare(_ context.Context, spec runtime.Spec) error {
	if err := r.begin(); err != nil {
		return err
	}
	defer r.starts.Done()
	_, _, err := r.check(spec)
	return err
}

// check says whether the spec can be run, and gives the program's path.
func (r *Runtime) check(spec runtime.Spec) (parsed command, path string, err error) {
	if parsed, err = parse(spec.Executable); err == nil {
		err = r.canLimit(parsed.ResourceLimits)
	}
	if err == nil {
		path, err = resolve(r.config.Root, string(parsed.Command[0]))
	}
	return parsed, path, err
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

	parsed, path, err := r.check(spec)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if err := messages.CheckBackendID(spec.BackendID); err != nil {
		return nil, err
	}
	if r.running(spec.BackendID) != nil {
		return nil, fmt.Errorf("the backend %s runs already", spec.BackendID)
	}
	instance, err := r.launch(spec, parsed, path)
	if err != nil {
		return nil, err
	}
	return instance, r.add(instance)
}

// launch starts a process with all that it needs; what of it there was is undone when it
// cannot be started.
func (r *Runtime) launch(spec runtime.Spec, parsed command, path string) (_ *Instance, err error) {
	instance := &Instance{owner: r, backendID: spec.BackendID, done: make(chan struct{}), user: nobodyElse}
	undo := []func(){}
	defer func() {
		if err != nil {
			for _, undo := range slices.Backward(undo) {
				undo()
			}
		}
	}()
	if instance.port, err = r.ports.take(); err != nil {
		return nil, err
	}
	undo = append(undo, func() { r.ports.release(instance.port, false) })
	if instance.user, err = r.users.take(); err != nil {
		return nil, err
	}
	undo = append(undo, func() { r.users.release(instance.user) })
	if instance.home, err = r.makeHome(spec.BackendID, instance.user); err != nil {
		return nil, err
	}
	undo = append(undo, instance.home.remove)
	readers, writers, err := r.openStreams(spec.BackendID, instance.user)
	if err != nil {
		return nil, err
	}
	defer closeAll(writers) // the process has its own
	undo = append(undo, func() { closeAll(readers); r.removeFiles(spec.BackendID) })
	pen, err := r.makePen(spec.BackendID, parsed.ResourceLimits)
	if err != nil {
		return nil, err
	}
	undo = append(undo, pen.remove)
	instance.prepare(spec, readers)
	instance.memory = parsed.ResourceLimits.Memory()
	err = r.exec(instance, pen, program{
		path: path, args: r.arguments(parsed), env: r.environment(spec, parsed, instance), dir: string(instance.home),
		cpuTime: parsed.ResourceLimits.CPUTime(),
	}, writers)
	if err != nil {
		err = fmt.Errorf("executable: command[0] %.200q cannot be started: %w", parsed.Command[0], explain(reason(err), path))
	}
	return instance, err
}

// exec starts the program with an empty standard input.
func (r *Runtime) exec(instance *Instance, pen pen, p program, writers []*os.File) error {
	empty, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer empty.Close()
	p.files = []uintptr{empty.Fd()}
	for _, writer := range writers {
		// As programs expect it: a write to a full pipe waits.
		if err := unix.SetNonblock(int(writer.Fd()), false); err != nil {
			return err
		}
		p.files = append(p.files, writer.Fd())
	}
	return r.fork(instance, pen, p)
}

// add begins to watch over an instance that runs, or ends it.
func (r *Runtime) add(instance *Instance) error {
	r.mu.Lock()
	r.live[instance] = struct{}{}
	r.mu.Unlock()
	err := instance.watch()
	if err != nil {
		_ = instance.body.kill()
		instance.end()
	}
	return err
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
func (r *Runtime) environment(spec runtime.Spec, parsed command, instance *Instance) []string {
	env := map[string]string{"PATH": r.config.Path, "HOME": string(instance.home), "TMPDIR": instance.home.temp()}
	for name, value := range parsed.Env {
		env[string(name)] = string(value)
	}
	maps.Copy(env, spec.Env)
	if _, named := env[runtime.EnvDrone]; !named || r.config.Drone != "" {
		env[runtime.EnvDrone] = r.config.Drone // also "": who has none may be anybody's, for a guard
	}
	if r.state != "" {
		env[runtime.EnvState] = r.state
	}
	if r.stateDir != "" {
		env[runtime.EnvStateDir] = r.stateDir
	}
	env[runtime.EnvBackendID] = spec.BackendID
	env["HOST"], env["PORT"] = r.config.Host, strconv.Itoa(instance.port)
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// ended forgets an instance of which nothing runs any more.
func (r *Runtime) ended(instance *Instance) {
	r.removeFiles(instance.backendID)
	instance.home = instance.home.setAside()
	r.mu.Lock()
	delete(r.live, instance)
	r.mu.Unlock()
	r.users.release(instance.user)
	if instance.port != 0 {
		r.ports.release(instance.port, true)
	}
}

// Demands is what the limits of an executable say.
func (r *Runtime) Demands(raw json.RawMessage) runtime.Demands {
	parsed, err := parse(raw)
	if err != nil {
		return runtime.Demands{}
	}
	return parsed.ResourceLimits.Demands()
}

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
		r.poller.close() // what is let go is not to end under it
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
		<-instance.done
	}
	r.watching.Wait()
	r.poller.close()
	r.ports.close()
	// Only now: the end of its thread kills processes that do not outlive the agent.
	r.forker.close()
	r.closeSystem()
	home(r.temporary).remove()
	return nil
}
