package worker_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// droneEnv makes a child of the test binary a drone, to be killed.
const droneEnv = "JETWAY_TEST_DRONE_AT"

func droneConfig(name string) drone.Config {
	return drone.Config{
		Name: name, Cluster: cluster, Version: "test", RuntimeName: "fake",
		Grace: 200 * time.Millisecond, ShutdownTimeout: testkit.Patience,
	}
}

func playDrone(url string) {
	nc, err := nats.Connect(url)
	if err == nil {
		err = drone.Run(context.Background(), droneConfig("dr-a"), nc, fake.New())
	}
	fmt.Fprintln(os.Stderr, "the drone ended:", err)
	os.Exit(1)
}

// realDrone is a drone's agent on a fake runtime.
type realDrone struct{ rt *fake.Runtime }

// startDrone runs one until the test ends; it is ready for backends.
func startDrone(t *testing.T, w *world, name, url string) *realDrone {
	t.Helper()
	d := &realDrone{rt: fake.New()}
	nc := natstest.Conn(t, url, nats.ReconnectBufSize(-1))
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	cfg := droneConfig(name)
	cfg.OnReady, cfg.Log = func() { close(ready) }, testkit.Logger(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		// On a slow machine a worker may not take the last words of a test that is over in the 5 s that a drone waits.
		if err := drone.Run(ctx, cfg, nc, d.rt); err != nil && !strings.Contains(err.Error(), "no worker has taken the end of") {
			t.Errorf("the drone: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = d.rt.Close()
	})
	testkit.Receive(t, ready, "the drone is ready")
	return d
}

// awaitReady wants a backend of a key to become ready, wherever.
func awaitReady(t *testing.T, w *world, key string) messages.ConnectResponse {
	t.Helper()
	var resp messages.ConnectResponse
	// One may end before it is ready, as where this machine stood still for as long as a lease: then there is a next one.
	testkit.Eventually(t, "a backend is ready", func() bool {
		var refusal *messages.Error
		if resp.BackendID == "" || w.status(resp.BackendID).Status == messages.Terminated {
			resp, refusal = w.awaitConnect(w.sendConnect(spawnKey(key), testkit.Patience))
		}
		return refusal == nil && w.status(resp.BackendID).Status == messages.Ready
	})
	return resp
}

// I1 and I6: what a drone ran that is cut off has ended before its key is free, and
// the drone is as good as new when it is back.
func TestI1I6DroneThatIsCutOffLosesItsBackendsAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, shortTTL)
	link := testkit.NewFaultProxy(t, strings.TrimPrefix(w.url, "nats://"))
	d := startDrone(t, w, "dr-a", "nats://"+link.Addr())
	first := awaitReady(t, w, "doc")
	link.Stall() // nobody is told that the connection is gone
	if end := awaitEnd(t, w, first.BackendID); end.Reason != messages.ReasonLost || end.LastStatus != messages.Ready {
		t.Errorf("it ended as %+v", end.State)
	}
	if n := len(d.rt.Live()); n != 0 {
		t.Errorf("%d run whose lease is over", n)
	}
	if _, ok := w.route(first.Token); ok {
		t.Error("its token leads somewhere")
	}
	// If this machine stood still for as long as the lease, it was lost and has registered before.
	testkit.Eventually(t, "the drone is said to be lost", func() bool {
		said := droneEvents(t, w, "dr-a")
		return said[len(said)-1] == messages.TypeDroneLost
	})

	link.Cut()
	link.Heal()
	second := awaitReady(t, w, "doc")
	if second.BackendID == first.BackendID || len(d.rt.Live()) != 1 {
		t.Errorf("%+v after %s; %d run", second, first.BackendID, len(d.rt.Live()))
	}
	if n := w.count("drone where lost_at is not null"); n != 0 {
		t.Error("the drone that is back counts as lost")
	}
	testkit.Eventually(t, "nothing on record of the lost backend", func() bool {
		return w.count("outbox where backend_id = $1", first.BackendID) == 0
	})
}

func TestI6BackendsOfAKilledDroneEndAsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, longTTL)
	run := func() *exec.Cmd {
		t.Helper()
		self, err := os.Executable()
		must(t, err)
		child := exec.Command(self)
		child.Env = append(os.Environ(), droneEnv+"="+w.url)
		child.Stderr = t.Output()
		must(t, child.Start())
		t.Cleanup(func() {
			_ = child.Process.Kill()
			_ = child.Wait() // an error, if it was waited for before
		})
		return child
	}
	child := run()
	first := awaitReady(t, w, "doc")
	must(t, child.Process.Kill())
	_ = child.Wait()
	elapse(t, w, "dr-a", longTTL)
	if end := awaitEnd(t, w, first.BackendID); end.Reason != messages.ReasonLost {
		t.Errorf("it ended as %+v", end.State)
	}
	awaitDroneEvents(t, w, "dr-a", messages.TypeDroneRegistered, messages.TypeDroneLost)
	wantOnce(t, w, first.BackendID)

	run()
	if second := awaitReady(t, w, "doc"); second.BackendID == first.BackendID {
		t.Error("the lost backend is given out")
	}
	awaitDroneEvents(t, w, "dr-a", messages.TypeDroneRegistered, messages.TypeDroneLost, messages.TypeDroneRegistered)
}
