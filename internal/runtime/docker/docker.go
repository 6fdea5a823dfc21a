package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// askTimeout bounds one request to the engine that nobody else bounds. Tests' engines have longer.
var askTimeout = 10 * time.Second

const (
	// killTimeout is shorter: a hard termination has another way to go.
	killTimeout = 3 * time.Second
	// greetTimeout bounds the first request.
	greetTimeout = 5 * time.Second
)

// Runtime runs containers. Make it with New.
type Runtime struct {
	config Config
	host   netip.Addr
	engine *client.Client
	// local says that the engine is on this machine, as far as its address tells.
	local bool
	// near says that what it calls a process's number is what this process calls so.
	near bool
	// podman says that the engine is Podman, which differs here and there.
	podman atomic.Bool
	// boundless says that it cannot bound what containers use.
	boundless bool
	pulls     pulls
	images    *images

	// ctx ends with Close, and with it all goroutines, which wg counts.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu sync.Mutex
	// live are the containers that are looked after, by their ids, until they are removed.
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
	r := &Runtime{
		config: config,
		host:   netip.MustParseAddr(config.Host),
		live:   map[string]*Instance{},
	}
	if err := r.greet(ctx); err != nil {
		return nil, err
	}
	var err error
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.pulls.r = r
	if r.images, err = openImages(r); err != nil {
		r.stop()
		_ = r.engine.Close()
		return nil, err
	}
	r.wg.Go(r.watch)
	r.wg.Go(r.images.run)
	return r, nil
}

// connect makes a client of the engine at a URL, and does not ask it anything yet. It tells
// podman if that is what answers: the engine's word about itself takes Podman up to a minute.
func connect(host string, podman *atomic.Bool) (*client.Client, error) {
	engine, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(host), client.WithAPIVersionFromEnv(),
		client.WithHTTPResponseHook(func(answer *http.Response) {
			if answer.Header.Get("Libpod-Api-Version") != "" {
				podman.Store(true)
			}
		}))
	if err != nil {
		return nil, fmt.Errorf("docker host %s: %w", host, err)
	}
	return engine, nil
}

// greet connects and agrees on a version of the API.
func (r *Runtime) greet(ctx context.Context) (err error) {
	host := r.config.Engine
	if r.engine, err = connect(host, &r.podman); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	answer, err := r.engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if kind := answer.OSType; err == nil && kind != "" && kind != "linux" {
		err = fmt.Errorf("it runs %s containers, Linux containers are needed", kind)
	}
	if err != nil {
		_ = r.engine.Close()
		return fmt.Errorf("docker host %s: %w", host, plain(err))
	}
	if socket, local := strings.CutPrefix(host, "unix://"); local {
		r.local, r.boundless, r.near = true, boundless(socket), near(socket)
	}
	return nil
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

// check says whether this machine can run it, and makes the folder that it gets, or "".
func (r *Runtime) check(spec runtime.Spec, c command) (folder string, err error) {
	if l := c.ResourceLimits; r.boundless && l != nil && *l != (executable.Limits{}) { // Podman leaves them all away, and says nothing
		return "", errors.New("executable: resource_limits: the drone's engine is rootless on a machine with cgroup v1, where it can limit nothing; leave them out, or move the machine to cgroup v2")
	}
	return r.mountSource(spec, c)
}

func (r *Runtime) prepare(ctx context.Context, spec runtime.Spec, c command) error {
	if _, err := r.check(spec, c); err != nil {
		return err
	}
	if c.policy() != always {
		image, err := r.engine.ImageInspect(ctx, c.ref.String())
		if err == nil {
			r.images.used(image.ID, "")
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
	folder, err := r.check(spec, c)
	if err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		i, err := r.begin(ctx, spec, c, folder)
		if err == nil {
			return i, nil
		}
		// The engine picks a port that is free when it makes the container. Rootless Podman listens on it only when it starts it.
		if tries == portTries || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
	}
}

// portTries is how often a container is made whose port somebody else took before it was started.
const portTries = 3

// begin makes one container and starts it; nothing is left of one that does not start.
func (r *Runtime) begin(ctx context.Context, spec runtime.Spec, c command, folder string) (*Instance, error) {
	id, err := r.create(ctx, spec, c, folder)
	if err != nil {
		return nil, err
	}
	i := r.newInstance(id, spec)
	if !r.add(i) {
		r.discard(i)
		return nil, runtime.ErrClosed
	}
	found, err := r.launch(ctx, i)
	if err != nil {
		i.unfollow()
		r.discard(i)
		r.drop(id)
		i.letGo()
		return nil, c.explain(err)
	}
	i.begin(&follower{}, found)
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
		r.removeLater(options.Name)
	}
	return "", c.explain(fmt.Errorf("create the container: %w", plain(err)))
}

// launch starts the container and learns where it is.
func (r *Runtime) launch(ctx context.Context, i *Instance) (found container.InspectResponse, err error) {
	if _, err := r.engine.ContainerStart(ctx, i.id, client.ContainerStartOptions{}); err != nil {
		return found, fmt.Errorf("start the container: %w", plain(err))
	}
	// Podman cannot tell of one that ends at that moment.
	found, err = backoff.RetryWithData(func() (container.InspectResponse, error) {
		found, err := r.inspect(ctx, i.id)
		if err != nil && !errdefs.IsInternal(err) {
			err = backoff.Permanent(err)
		}
		return found, err
	}, backoff.WithContext(backoff.WithMaxRetries(retries(), 5), ctx))
	if err != nil {
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
// Until then its backend has its lease, and past that the guard ends it (I1).
func (r *Runtime) discard(i *Instance) {
	_ = backoff.RetryNotify(func() error { return r.remove(i.id) }, backoff.WithContext(retries(), r.ctx), func(err error, _ time.Duration) {
		r.config.Log.Warn("cannot remove a container whose start failed, trying again", "backend_id", i.backendID, "err", err)
	})
}

// Close ends what the runtime does and leaves the containers. It may be called twice.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	r.wg.Wait()
	if err := r.engine.Close(); err != nil {
		return fmt.Errorf("close the connection to Docker: %w", err)
	}
	return nil
}

// isClosed says whether Close was called; who holds mu is told for good.
func (r *Runtime) isClosed() bool { return r.ctx.Err() != nil }

// add looks after an instance from now on, unless the runtime is closed.
func (r *Runtime) add(i *Instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[i.id] = i
	return !r.isClosed()
}

func (r *Runtime) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, id)
}

// goOn runs f in a goroutine that Close waits for, unless it is closed already.
func (r *Runtime) goOn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isClosed() {
		return false
	}
	r.wg.Go(f)
	return true
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
