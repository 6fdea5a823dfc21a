package metrics_test

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCountingAllocatesNothing(t *testing.T) {
	w := metrics.NewWorker(nil)
	endpoint, lane := w.Endpoint("connect"), w.Lane("connect")
	if n := testing.AllocsPerRun(1000, func() {
		endpoint.Done("", time.Millisecond)
		endpoint.Done(messages.Overloaded, time.Millisecond)
		lane.Batch(64, time.Millisecond)
		w.Spawned()
		w.Published(true, 1, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSweepsAreCountedByCause(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	w := metrics.NewWorker(reg)
	w.Swept("limit", 3)
	w.Swept("limit", 2)
	w.Swept("stuck", 1)
	w.Swept("lost", 0)
	want := `# HELP jetway_worker_sweeps_total Backends, drones and rows that sweeps acted on, by cause.
# TYPE jetway_worker_sweeps_total counter
jetway_worker_sweeps_total{cause="limit"} 5
jetway_worker_sweeps_total{cause="lost"} 0
jetway_worker_sweeps_total{cause="stuck"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "jetway_worker_sweeps_total"); err != nil {
		t.Error(err)
	}
}

func BenchmarkCount(b *testing.B) {
	endpoint := metrics.NewWorker(nil).Endpoint("connect")
	for b.Loop() {
		endpoint.Done("", time.Millisecond)
	}
}

func TestTakenAddressIsSaid(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = metrics.Start(addr, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on %s: %v", addr, err)
	}
}
