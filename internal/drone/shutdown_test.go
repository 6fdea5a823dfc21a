package drone_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I6: where the machine is being shut down, what would be left to the next run of the agent is ended, and the workers know before the
// agent ends: nobody is led to a backend that is gone until its lease has run out. (An agent that is merely stopped leaves what runs:
// see the tests of adoption.)
func TestI6BackendsOfAMachineThatIsShutDownEndAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.run(func(c *drone.Config) { c.MachineStops = func() bool { return true } })
	a.awaitReady()
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Ready)
	left(t, a)
	got := s.end("b-1")
	if got.Kind != messages.Soft || got.Reason != messages.ReasonExternal || got.Cause != messages.CauseMachine || !strings.Contains(got.Words, "machine") {
		t.Fatalf("ended as %+v", got)
	}
	s.lives()
}

// The demand: drones have /metrics, /healthz and /readyz.
func TestDroneShowsItself(t *testing.T) {
	t.Parallel()
	server, err := metrics.StartDrone("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(server.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, text := get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("before it runs: %d %s", status, text)
	}
	h, _, a := rig(t, func(c *drone.Config) {
		c.Metrics, c.Version, c.Pool, c.Capacity = server.Drone(), "1.2.3", "gpu", messages.Capacity{MaxBackends: 4}
		c.OnExit = drone.End
	})
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.spawn("b-2", fake.Script{StartError: "no"}.Executable())
	h.end("b-2")
	testkit.Eventually(t, "it is ready", func() bool { status, _ := get("/readyz"); return status == http.StatusOK })
	if status, text := get("/healthz"); status != http.StatusOK {
		t.Errorf("it is not alive: %s", text)
	}
	_, text := get("/metrics")
	for _, want := range []string{
		`jetway_drone_info{cluster="`, `pool="gpu",version="1.2.3"} 1`, "jetway_drone_ready 1", `jetway_drone_backends{status="ready"} 1`,
		`jetway_drone_load{resource="backends"} 1`, `jetway_drone_capacity{resource="backends"} 4`, "jetway_drone_nats_connected 1",
		`jetway_drone_start_duration_seconds_count{outcome="ready"} 1`, `jetway_drone_start_duration_seconds_count{outcome="failed"} 1`,
		`jetway_drone_backends_ended_total{reason="start-failed"} 1`, `jetway_drone_heartbeats_total{outcome="ok"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if strings.Contains(text, "jetway_drone_lease_left_seconds 0\n") || strings.Contains(text, `jetway_drone_heartbeats_total{outcome="ok"} 0`) {
		t.Error("it has no lease, or sends no heartbeats")
	}
	a.stop()
	testkit.Eventually(t, "it is not ready", func() bool { status, _ := get("/readyz"); return status != http.StatusOK })
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
}
