package worker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// The demand: who finds no drone is told why, in words and as a field, and it is counted; who ends a backend says who he is and why,
// and whoever looks later finds that, in its status and in its events; and a lost drone is forgotten when somebody asks, with its consumer.
func TestOperatorsFindOutWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reg := prometheus.NewRegistry()
	counts := metrics.NewWorker(reg)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.Metrics = counts }})
	refused := func(pool, inCluster string, want messages.NoDrone, words string) {
		t.Helper()
		req := spawnKey("nobody's")
		req.SpawnConfig.Pool, req.SpawnConfig.Cluster = pool, inCluster
		_, refusal := w.ask(messages.SubjectConnect, req)
		if refusal == nil || refusal.Kind != messages.NoDroneAvailable || refusal.Reason != string(want) || !strings.Contains(refusal.Message, words) {
			t.Errorf("pool %q: %+v, want %s, which says %q", pool, refusal, want, words)
		}
	}
	refused("", "", messages.NoDroneOfCluster, "no drone of the cluster is known")
	p := startPeer(t, w, "dr-a")
	refused("gpu", "", messages.NoDroneOfPool, `pools ""`)
	runs := w.connect(spawnKey("k"))
	_, refusal := w.ask(messages.SubjectDrain, messages.DrainRequest{Drone: "dr-a"})
	if refusal != nil {
		t.Fatal(refusal)
	}
	refused("", "", messages.NoDroneDraining, "all its drones are draining (1)")
	want := `# HELP jetway_worker_no_drone_total Connects that were refused for no drone takes a backend, by reason.
# TYPE jetway_worker_no_drone_total counter
jetway_worker_no_drone_total{reason="draining"} 1
jetway_worker_no_drone_total{reason="full"} 0
jetway_worker_no_drone_total{reason="not-ready"} 0
jetway_worker_no_drone_total{reason="silent"} 0
jetway_worker_no_drone_total{reason="unknown-cluster"} 1
jetway_worker_no_drone_total{reason="unknown-pool"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "jetway_worker_no_drone_total"); err != nil {
		t.Error(err)
	}

	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: runs.BackendID, By: "ada@ops", Reason: "an upgrade"}); refusal != nil {
		t.Fatal(refusal)
	}
	p.report(runs.BackendID, messages.Terminated)
	if info := w.status(runs.BackendID); info.By != "ada@ops" || info.Cause != messages.CauseAsked || info.Words != "ada@ops asked for its end: an upgrade" || info.Runs != "room" {
		t.Errorf("it is %+v", info)
	}
	// The report was answered after its event was published.
	published := events(t, w, messages.BackendEventSubject(runs.BackendID))
	if last := as[messages.StateEvent](t, published[len(published)-1].Data); last.By != "ada@ops" || last.Cause != messages.CauseAsked {
		t.Errorf("its last event is %+v", last)
	}

	if _, refusal := w.ask(messages.SubjectForget, messages.ForgetRequest{Drone: "dr-a"}); refusal == nil || refusal.Kind != messages.DroneHeld {
		t.Errorf("a drone that is heard is forgotten: %v", refusal)
	}
	_, err := w.db.Exec(t.Context(), `update drone set lost_at = now()`)
	must(t, err)
	if _, refusal := w.ask(messages.SubjectForget, messages.ForgetRequest{Drone: "dr-a"}); refusal != nil {
		t.Error(refusal)
	}
	if _, err := natstest.JetStream(t, w.nc).PushConsumer(t.Context(), messages.StreamActions, "dr-a"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("its consumer: %v", err)
	}
}
