package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// workerEnv makes a child of the test binary a worker: name, NATS URL, DSN and version as JSON.
const workerEnv = "JETWAY_TEST_WORKER"

const (
	newVersion   = "1.0.0"
	otherVersion = "0.9.0-other"
)

func playWorker(env string) {
	var as [4]string
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := json.Unmarshal([]byte(env), &as)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var nc *nats.Conn
	if err == nil {
		nc, err = bus.Connect(ctx, bus.Config{URL: as[1], Name: as[0], Log: log})
	}
	var st *store.Store
	if err == nil {
		st, err = store.Open(ctx, store.Config{DSN: as[2], Terms: lease.Terms{TTL: longTTL}})
	}
	if err == nil {
		err = worker.Run(ctx, worker.Config{Name: as[0], Version: as[3], DefaultCluster: cluster, Log: log}, nc, st)
		bus.Drain(nc, testkit.Patience)
		st.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the worker ended:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process starts a worker's process and waits until it answers. What it gives ends it
// as an upgrade does and wants it to end well.
func process(t *testing.T, w *world, name string, cmd *exec.Cmd) (terminate func()) {
	t.Helper()
	cmd.Stderr = t.Output()
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	terminate = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(testkit.Patience):
			_ = cmd.Process.Kill()
			t.Errorf("%s does not end: %v", name, <-ended)
		}
	})
	t.Cleanup(terminate)
	awaitVersions(t, w, name)
	return terminate
}

// awaitVersions asks until the workers with these names have answered, and gives the version of each that did.
func awaitVersions(t *testing.T, w *world, names ...string) map[string]string {
	t.Helper()
	inbox, found := w.nc.NewInbox(), map[string]string{}
	sub, err := w.nc.SubscribeSync(inbox)
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	testkit.Eventually(t, fmt.Sprint(names, " answer"), func() bool {
		must(t, w.nc.PublishRequest("$SRV.PING.jetway", inbox, nil))
		// An answer that comes later is one to the next question.
		for msg, err := sub.NextMsg(100 * time.Millisecond); err == nil; msg, err = sub.NextMsg(0) {
			ping := as[micro.Ping](t, msg.Data)
			found[ping.Metadata["worker"]] = ping.Metadata["version"]
		}
		return !slices.ContainsFunc(names, func(name string) bool { return found[name] == "" })
	})
	return found
}

func newWorker(t *testing.T, w *world, name string) (terminate func()) {
	t.Helper()
	return playedWorker(t, w, name, newVersion)
}

func otherWorker(t *testing.T, w *world, name string) (terminate func()) {
	t.Helper()
	return playedWorker(t, w, name, otherVersion)
}

func playedWorker(t *testing.T, w *world, name, version string) (terminate func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(messages.Encode([4]string{name, w.url, w.dsn, version})))
	return process(t, w, name, cmd)
}

// builtWorker is one of the real binary.
func builtWorker(t *testing.T, w *world, name string) (terminate func()) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "jetway")
	if err := testkit.Build(t.Context(), binary, "github.com/jetway-project/jetway/cmd/jetway"); err != nil {
		t.Fatal(err)
	}
	return process(t, w, name, exec.Command(binary, "worker", "--nats", w.url, "--postgres", w.dsn, "--name", name, "--default-cluster", cluster, "--lease-ttl", longTTL.String()))
}

// flood keeps connects coming until it is stopped, and wants none to be refused.
type flood struct {
	done atomic.Int64
	stop func()
}

func startFlood(t *testing.T, w *world, name string, inFlight int) *flood {
	t.Helper()
	f := &flood{}
	pause := testkit.Sized(t, 100*time.Millisecond, 0) // enough to come at every moment, and not all that the machine can do
	stopping := make(chan struct{})
	var asking sync.WaitGroup
	for a := range inFlight {
		asking.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stopping:
					return
				default:
				}
				// Every other one joins.
				_, refusal := w.awaitConnect(w.sendConnect(spawnKey(fmt.Sprintf("%s-%d-%d", name, a, i/2)), testkit.Patience))
				if refusal != nil {
					t.Errorf("a connect: %v", refusal)
				}
				f.done.Add(1)
				select {
				case <-time.After(pause):
				case <-stopping:
				}
			}
		})
	}
	f.stop = sync.OnceFunc(func() {
		close(stopping)
		asking.Wait()
	})
	t.Cleanup(f.stop)
	return f
}

func (f *flood) await(t *testing.T, more int64) {
	t.Helper()
	until := f.done.Load() + more
	testkit.Eventually(t, "connects are settled", func() bool { return f.done.Load() >= until })
}

// I7: workers of two versions take turns under load, as real processes that get SIGTERM.
// Each of the requests in flight, hundreds in full size, and each that waits for a backend to leave, gets
// one reply, and none an error.
func TestI7RollingUpgradeRefusesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := newWorker
	if testkit.Sized(t, false, true) {
		start = builtWorker
	}
	terminateNew := start(t, w, "wo-new")
	terminateOld := otherWorker(t, w, "wo-old")
	if v := awaitVersions(t, w, "wo-old", "wo-new"); v["wo-old"] != otherVersion || v["wo-new"] == otherVersion {
		t.Fatalf("the versions are %v", v)
	}
	p := startPeer(t, w, "dr-a")
	f := startFlood(t, w, "doc", testkit.Sized(t, 30, 300))
	some := testkit.Sized[int64](t, 60, 600)
	upgrade := func(key string, terminate func()) {
		t.Helper()
		first := w.connect(spawnKey(key))
		p.report(first.BackendID, messages.Loading, messages.Ready, messages.Terminating)
		parked := make([]<-chan *nats.Msg, testkit.Sized(t, 20, 100))
		for i := range parked {
			parked[i] = w.sendConnect(spawnKey(key), testkit.Patience)
		}
		f.await(t, some) // those parked were taken before
		terminate()
		f.await(t, some)
		p.report(first.BackendID, messages.Terminated)
		spawned, next := 0, ""
		for _, reply := range parked {
			resp, refusal := w.awaitConnect(reply)
			if refusal != nil {
				t.Errorf("a connect that waited: %v", refusal)
				continue
			}
			if resp.Spawned {
				spawned, next = spawned+1, resp.BackendID
			}
		}
		if spawned != 1 || next == first.BackendID {
			t.Errorf("%d spawned, %s after %s", spawned, next, first.BackendID)
		}
		p.heartbeat()
	}
	upgrade("leaving-1", terminateOld)
	otherWorker(t, w, "wo-old-again")
	upgrade("leaving-2", terminateNew)
	f.stop()
}

// Without another worker the asker is told at once.
func TestI7LastWorkerRefusesWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("doc"))
	p.report(first.BackendID, messages.Ready, messages.Terminating)
	waiting := w.sendConnect(spawnKey("doc"), testkit.Patience)
	p.marker() // it was taken before
	stop()
	if _, refusal := w.awaitConnect(waiting); refusal == nil || refusal.Kind != messages.Unavailable {
		t.Errorf("the refusal is %v", refusal)
	}
}
