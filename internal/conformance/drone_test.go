package conformance_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// lease is how long one lives here: short, for most of what the kit waits for is counted from it.
const lease = 6 * time.Second

// The demand: our own drone does all that the kit asks for, with processes, and without addresses all that can be seen then.
func TestOurDronePasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		runtime    func(*testing.T) runtime.Runtime
		executable string
		unseen     []string
	}{
		{"dr-process", processes, `{"command":["backend"],"env":{"TEST_BACKEND":"1"}}`, nil},
		{"dr-fake", func(*testing.T) runtime.Runtime { return fake.New() }, `{}`, []string{"lost", "hard-deadline"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Server(t)
			rt := c.runtime(t)
			t.Cleanup(func() { _ = rt.Close() })
			runDrone(t, c.name, server.URL(), rt)
			results := tryDrone(t, conformance.Drone{
				Name: c.name, Executable: json.RawMessage(c.executable), Lease: lease,
				// No test judges by how soon.
				Wait: testkit.Patience, Slack: testkit.Patience,
			}, server.URL())
			for id, r := range results {
				want := conformance.Pass
				if slices.Contains(c.unseen, id) {
					want = conformance.Skip
				}
				if r.Verdict != want {
					t.Errorf("%s (%s): %s, want %s: %s", id, r.Says, r.Verdict, want, r.Why)
				}
			}
		})
	}
}

func processes(t *testing.T) runtime.Runtime {
	t.Helper()
	rt, err := process.New(process.Config{Root: ownRoot(t)})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// runDrone runs ours until the test ends.
func runDrone(t *testing.T, name, url string, rt runtime.Runtime) {
	t.Helper()
	nc := natstest.Conn(t, url, nats.ReconnectBufSize(-1))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- drone.Run(ctx, drone.Config{Name: name, Cluster: "localhost:9090", RuntimeName: "test", Grace: testkit.Patience, Log: testkit.Logger(t)}, nc, rt)
	}()
	t.Cleanup(func() {
		cancel()
		if err := testkit.Receive(t, ended, "the drone ends"); err != nil {
			t.Errorf("the drone: %v", err)
		}
	})
}

// tryDrone has the kit try a drone, and gives what came of each check.
func tryDrone(t *testing.T, d conformance.Drone, url string) map[string]conformance.Result {
	t.Helper()
	results := map[string]conformance.Result{}
	d.Say = func(r conformance.Result) {
		t.Logf("%s %s: %s", r.Verdict, r.Check, r.Why)
		results[r.Check] = r
	}
	if err := d.Run(t.Context(), natstest.Conn(t, url)); err != nil {
		t.Fatal(err)
	}
	for _, check := range conformance.DroneChecks() {
		if results[check.ID].Check == "" {
			t.Errorf("nothing was said of %s", check.ID)
		}
	}
	return results
}
