package docker

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Bounds of one request to the engine that nobody else bounds.
const (
	askTimeout = 10 * time.Second
	// killTimeout is shorter: a hard termination has another way to go.
	killTimeout = 3 * time.Second
	// greetTimeout bounds the first request.
	greetTimeout = 5 * time.Second
)

// maxAsking is how many requests about ended containers are under way at once.
const maxAsking = 16

// Runtime runs containers. Make it with New.
type Runtime struct {
	config Config
	host   netip.Addr
	engine *client.Client
	// local says that the engine is on this machine, as far as its address tells.
	local  bool
	pulls  pulls
	images *images
	rest   *remover
	asking chan struct{}

	// ctx ends with Close, and with it all goroutines, which wg counts.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// live are the containers that are looked after, by their ids.
	live map[string]*Instance
}

var _ runtime.Adopter = (*Runtime)(nil)

// New checks the configuration and that the engine answers, and returns a runtime,
// which the caller closes.
func New(ctx context.Context, config Config) (*Runtime, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	engine, err := greet(ctx, config.Engine)
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		config: config,
		host:   netip.MustParseAddr(config.Host),
		engine: engine,
		local:  strings.HasPrefix(config.Engine, "unix:"),
		asking: make(chan struct{}, maxAsking),
		live:   map[string]*Instance{},
	}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.pulls.r, r.rest = r, newRemover(r)
	if r.images, err = openImages(r); err != nil {
		r.stop()
		_ = engine.Close()
		return nil, err
	}
	r.wg.Go(r.watch)
	r.wg.Go(r.rest.run)
	r.wg.Go(r.images.run)
	return r, nil
}

// greet connects and agrees on a version of the API.
func greet(ctx context.Context, host string) (*client.Client, error) {
	engine, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(host), client.WithAPIVersionFromEnv())
	if err != nil {
		return nil, fmt.Errorf("docker host %s: %w", host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	ping, err := engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err == nil && ping.OSType != "" && ping.OSType != "linux" {
		err = fmt.Errorf("it runs %s containers, Linux containers are needed", ping.OSType)
	}
	if err != nil {
		_ = engine.Close()
		return nil, fmt.Errorf("docker host %s: %w", host, plain(err))
	}
	return engine, nil
}

// Prepare checks the executable and pulls its image where the policy says so.
func (r *Runtime) Prepare(ctx context.Context, spec runtime.Spec) error {
	if r.isClosed() {
		return runtime.ErrClosed
	}
	c, err := parse(spec.Executable)
	if err != nil {
		return err
	}
	return r.prepare(ctx, spec, c)
}

func (r *Runtime) prepare(ctx context.Context, spec runtime.Spec, c command) error {
	if _, err := r.mountSource(spec, c); err != nil {
		return err
	}
	if c.policy() != always {
		image, err := r.engine.ImageInspect(ctx, c.ref.String())
		if err == nil {
			r.images.used(image.ID)
			return nil
		}
		if !errdefs.IsNotFound(err) {
			return fmt.Errorf("look for image %q: %w", c.Image, plain(err))
		}
		if c.policy() == never {
			return fmt.Errorf("image %q is not on the drone's machine, and pull_policy %s forbids to pull it; pull it there, or allow it", c.Image, never)
		}
	}
	return r.pulls.pull(ctx, spec, c)
}

// Start creates the container and starts it.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	if r.isClosed() {
		return nil, runtime.ErrClosed
	}
	c, err := parse(spec.Executable)
	if err != nil {
		return nil, err
	}
	folder, err := r.mountSource(spec, c)
	if err != nil {
		return nil, err
	}
	id, err := r.create(ctx, spec, c, folder)
	if err != nil {
		return nil, err
	}
	i := r.newInstance(id, spec)
	// From here on the end of the container is seen, however soon it comes.
	if !r.add(i) {
		r.discard(i)
		return nil, runtime.ErrClosed
	}
	found, err := r.launch(ctx, i)
	if err != nil {
		r.drop(i)
		i.unfollow()
		close(i.followed)
		r.discard(i)
		return nil, c.explain(err)
	}
	i.begin(&follower{})
	if !running(found) {
		i.finish(exitOf(found))
	}
	return i, nil
}

// create makes the container, of an image that Prepare may not have seen.
func (r *Runtime) create(ctx context.Context, spec runtime.Spec, c command, folder string) (id string, err error) {
	options := r.describe(spec, c, folder)
	created, err := r.engine.ContainerCreate(ctx, options)
	if errdefs.IsNotFound(err) && strings.Contains(err.Error(), "No such image") {
		if err := r.prepare(ctx, spec, c); err != nil {
			return "", err
		}
		created, err = r.engine.ContainerCreate(ctx, options)
	}
	switch {
	case err == nil:
		return created.ID, nil
	case unsure(err):
		// It may be there. As it was never started, nothing of it runs.
		r.rest.add(options.Name)
	}
	return "", c.explain(fmt.Errorf("create the container: %w", plain(err)))
}

// launch starts the container and learns where it is.
func (r *Runtime) launch(ctx context.Context, i *Instance) (found container.InspectResponse, err error) {
	if _, err := r.engine.ContainerStart(ctx, i.id, client.ContainerStartOptions{}); err != nil {
		return found, fmt.Errorf("start the container: %w", plain(err))
	}
	if found, err = r.inspect(ctx, i.id); err != nil {
		return found, fmt.Errorf("look at the started container: %w", plain(err))
	}
	return found, i.learn(found)
}

// explain says what the engine's errors mean for who made the request.
func (c command) explain(err error) error {
	text := err.Error()
	switch {
	case c.ResourceLimits != nil && c.ResourceLimits.DiskLimitBytes != nil && (strings.Contains(text, "storage-opt") || strings.Contains(text, "StorageOpt") || strings.Contains(text, "storage driver")):
		return fmt.Errorf("executable: resource_limits.disk_limit_bytes: the storage driver of the drone's Docker cannot limit it; leave it out, or give the engine overlay2 on xfs with pquota, or btrfs: %w", err)
	case c.NetworkName != nil && strings.Contains(text, "network") && strings.Contains(text, "not found"):
		return fmt.Errorf("executable: network_name %q does not exist on the drone; create it there, or give another: %w", *c.NetworkName, err)
	}
	return fmt.Errorf("image %.200q: %w", c.Image, err)
}

// discard removes a container of which may run what nobody asked for any more, and
// returns when it is gone, or the runtime is closed (then the next agent finds it).
// Until the engine answers, its processes are killed without it (I1).
func (r *Runtime) discard(i *Instance) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-r.ctx.Done():
			return
		}
		err := r.remove(i.id)
		if err == nil {
			return
		}
		r.config.Log.Warn("cannot remove a container whose start failed, trying again", "backend_id", i.backendID, "err", err)
		_ = r.killWithoutEngine(i) // if there is anything to kill
		wait.Reset(time.Second)
	}
}

// Close ends what the runtime does and leaves the containers. It may be called twice.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	if err := r.engine.Close(); err != nil {
		return fmt.Errorf("close the connection to Docker: %w", err)
	}
	return nil
}

func (r *Runtime) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// add looks after an instance from now on, unless the runtime is closed.
func (r *Runtime) add(i *Instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.live[i.id] = i
	}
	return !r.closed
}

func (r *Runtime) drop(i *Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, i.id)
}

// goOn runs f in a goroutine that Close waits for, unless it is closed already.
func (r *Runtime) goOn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.wg.Go(f)
	}
	return !r.closed
}

// unsure says of an error that the engine may have done what it was asked for: it is
// not its answer.
func unsure(err error) bool { return !strings.Contains(err.Error(), engineSays) }

// engineSays begins what the engine itself answered.
const engineSays = "Error response from daemon: "

// plain is an error of the client without words that say nothing to a reader.
func plain(err error) error {
	text := err.Error()
	if short := strings.ReplaceAll(text, engineSays, ""); short != text {
		return &engineError{text: strings.TrimSpace(short), err: err}
	}
	if client.IsErrConnectionFailed(err) {
		return fmt.Errorf("docker cannot be reached: %w", err)
	}
	return err
}

// engineError is an error with another text.
type engineError struct {
	text string
	err  error
}

func (e *engineError) Error() string { return e.text }
func (e *engineError) Unwrap() error { return e.err }
