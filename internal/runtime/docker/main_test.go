package docker_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
)

// testLabel marks what the tests leave on the engine, for a while.
const testLabel = "jetway-test"

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := "6" // they wait more than they work
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			parallel = f.Value.String()
		}
	})
	_ = flag.Set("test.parallel", parallel)
	docker.LookEvery(time.Second)
	if !testkit.OwnsNetwork() { // where engines are stopped, and what becomes of that is looked at
		docker.Patient(testkit.Patience, testkit.Patience)
	}
	testkit.Main(m, cleanUp)
}

// shared is the engine that all tests use, with the images that they run.
var shared struct {
	once   sync.Once
	engine *client.Client
	err    error

	imported  sync.Once
	importErr error
	run       string // names what this run of the tests makes
}

// theEngine is the engine of DOCKER_HOST, or of the usual socket.
func theEngine(t *testing.T) *client.Client {
	t.Helper()
	dockertest.Needs(t)
	shared.once.Do(func() {
		shared.run = newID()
		shared.engine, shared.err = client.New(client.FromEnv)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.engine
}

func newID() string { return strings.ToLower(rand.Text()[:14]) }

// cleanUp removes the images, and says what containers are left.
func cleanUp() (err error) {
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	if shared.engine == nil {
		return nil
	}
	defer shared.engine.Close()
	if shared.err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	left, err := shared.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", testLabel+"="+shared.run)})
	for _, c := range left.Items {
		err = errors.Join(err, fmt.Errorf("container %v", c.Names))
	}
	for name := range imageChanges {
		_, _ = shared.engine.ImageRemove(ctx, imageName(name), client.ImageRemoveOptions{Force: true, PruneChildren: true})
	}
	return err
}

// stage is a runtime and the output of what it runs.
type stage struct {
	*docker.Runtime
	t      *testing.T
	engine *client.Client
	config docker.Config
	lines  chan runtime.Line
	words  chan string // of Progress
}

// newStage makes a runtime, of a drone of its own.
func newStage(t *testing.T, change func(*docker.Config)) *stage {
	t.Helper()
	return newStageOn(t, theEngine(t), change)
}

// newStageOn makes one of an engine that is not the shared one.
func newStageOn(t *testing.T, engine *client.Client, change func(*docker.Config)) *stage {
	t.Helper()
	s := &stage{t: t, engine: engine, lines: make(chan runtime.Line, 100_000), words: make(chan string, 10_000)}
	s.config = docker.Config{
		Drone:       "dr-" + newID(),
		Engine:      engine.DaemonHost(),
		Labels:      map[string]string{testLabel: shared.run},
		OutputGrace: testkit.Patience,
		RemoveAfter: 100 * time.Millisecond,
		Log:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&s.config)
	}
	t.Cleanup(s.clear)
	s.open()
	return s
}

// open makes the runtime, or after a Close its successor.
func (s *stage) open() {
	s.t.Helper()
	r, err := docker.New(s.t.Context(), s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Runtime = r
}

// clear removes what is left of the drone.
func (s *stage) clear() {
	if s.Runtime != nil {
		if err := s.Close(); err != nil {
			s.t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	for _, c := range s.containers(ctx) {
		_, _ = s.engine.ContainerRemove(ctx, c, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
}

// containers are those of the drone, whatever their state.
func (s *stage) containers(ctx context.Context) (ids []string) {
	list, err := s.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", "io.jetway.drone="+s.config.Drone),
	})
	if err != nil {
		s.t.Error(err)
	}
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

// spec is a backend that runs odd as told, with further fields of its executable.
func (s *stage) spec(as string, fields ...any) runtime.Spec {
	s.t.Helper()
	executable := map[string]any{"env": map[string]any{"AS": as}}
	for n := 0; n < len(fields); n += 2 {
		executable[fields[n].(string)] = fields[n+1]
	}
	if executable["image"] == nil {
		executable["image"] = image(s.t, "odd")
	}
	raw, err := json.Marshal(executable)
	if err != nil {
		s.t.Fatal(err)
	}
	id := newID()
	return runtime.Spec{
		BackendID: id, Namespace: "tests", Key: "key of " + id, Executable: raw,
		Env:      map[string]string{"SESSION_BACKEND_ID": id, "SESSION_BACKEND_FENCING_TOKEN": "7"},
		Log:      func(line runtime.Line) { s.lines <- line },
		Progress: func(text string) { s.words <- text },
	}
}

func (s *stage) start(spec runtime.Spec) runtime.Instance {
	s.t.Helper()
	if err := s.Prepare(s.t.Context(), spec); err != nil {
		s.t.Fatal(err)
	}
	instance, err := s.Start(s.t.Context(), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return instance
}

// refused starts what cannot be started, and returns why. Nothing may be left of it.
func (s *stage) refused(spec runtime.Spec) string {
	s.t.Helper()
	err := s.Prepare(s.t.Context(), spec)
	if err == nil {
		_, err = s.Start(s.t.Context(), spec)
	}
	if err == nil {
		s.t.Fatal("it was started")
	}
	if _, missing := s.engine.ContainerInspect(s.t.Context(), "jetway-"+spec.BackendID, client.ContainerInspectOptions{}); !errdefs.IsNotFound(missing) {
		s.t.Fatalf("after the refusal a container is left (%v)", missing)
	}
	return err.Error()
}

// line waits for a line that begins so, and returns the rest of it.
func (s *stage) line(prefix string) string {
	s.t.Helper()
	for {
		line := testkit.Receive(s.t, s.lines, fmt.Sprintf("the line %q comes", prefix))
		if rest, ok := strings.CutPrefix(line.Text, prefix); ok {
			return rest
		}
	}
}

// rest returns all lines that have come; it is complete after Done.
func (s *stage) rest() (lines []runtime.Line) {
	for {
		select {
		case line := <-s.lines:
			lines = append(lines, line)
		default:
			return lines
		}
	}
}

func (s *stage) exit(instance runtime.Instance) runtime.Exit {
	s.t.Helper()
	testkit.Receive(s.t, instance.Done(), "the instance ends")
	return instance.Exit()
}

// lives says that an instance has not ended.
func lives(t *testing.T, instance runtime.Instance) {
	t.Helper()
	select {
	case <-instance.Done():
		t.Fatalf("it has ended: %v", instance.Exit())
	default:
	}
}

// contextOf is for cleanups, which run after the test's own context has ended.
func contextOf(t *testing.T) context.Context {
	t.Helper()
	return context.WithoutCancel(t.Context())
}

// containerConfig is a container as the runtime labels its own.
func containerConfig(s *stage, spec runtime.Spec) *container.Config {
	return &container.Config{Image: image(s.t, "odd"), Env: []string{"AS=serve"}, Labels: map[string]string{
		"io.jetway.drone": s.config.Drone, "io.jetway.backend": spec.BackendID, testLabel: shared.run,
	}}
}

func (s *stage) inspect(instance runtime.Instance) container.InspectResponse {
	s.t.Helper()
	found, err := s.engine.ContainerInspect(s.t.Context(), instance.Handle(), client.ContainerInspectOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return found.Container
}

// farEngine is the engine as one that may be on another machine: by TCP.
func (s *stage) farEngine() string {
	s.t.Helper()
	host := s.engine.DaemonHost()
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return host
	}
	proxy := httptest.NewServer(relay{"unix", socket})
	s.t.Cleanup(proxy.Close)
	return strings.Replace(proxy.URL, "http://", "tcp://", 1)
}

// relay passes requests on to another address.
type relay struct{ network, address string }

// ServeHTTP passes a request on and does not wait with the answer.
func (r relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, r.network, r.address)
	}}
	proxy := httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = "http", "docker"
	}}
	proxy.ServeHTTP(w, req)
}
