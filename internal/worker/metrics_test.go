package worker_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// shown is where a worker shows itself.
type shown struct {
	t   *testing.T
	url string
}

// show has a worker's configuration show it over HTTP.
func show(t *testing.T) (*shown, func(*worker.Config)) {
	t.Helper()
	server, err := metrics.Start("127.0.0.1:0", testkit.Logger(t))
	must(t, err)
	t.Cleanup(server.Close)
	return &shown{t, server.URL()}, func(c *worker.Config) { c.Metrics = server.Metrics() }
}

func (s *shown) get(path string) (int, string) {
	s.t.Helper()
	client := http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(s.url + path)
	must(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp.StatusCode, string(body)
}

// value gives one series by its name and labels as Prometheus reads them; -1 when
// there is none.
func (s *shown) value(series string) float64 {
	s.t.Helper()
	_, text := s.get("/metrics")
	for line := range strings.Lines(text) {
		if number, ok := strings.CutPrefix(line, "jetway_worker_"+series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			must(s.t, err)
			return v
		}
	}
	return -1
}

func (s *shown) want(series string, want float64) {
	s.t.Helper()
	if got := s.value(series); got != want {
		s.t.Errorf("%s is %v, want %v", series, got, want)
	}
}

func (s *shown) awaitReady(status int, line string) {
	s.t.Helper()
	got := ""
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the last answer was %s", got)
		}
	}()
	testkit.Eventually(s.t, fmt.Sprintf("/readyz says %d %q", status, line), func() bool {
		code, text := s.get("/readyz")
		got = text
		return code == status && strings.HasPrefix(text, line) && strings.Count(text, "\n") == 1
	})
}

func requests(endpoint, outcome string) string {
	return fmt.Sprintf("requests_total{endpoint=%q,outcome=%q}", endpoint, outcome)
}

func TestMetricsCountEachRequestOnceByOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, change := show(t)
	startWorker(t, w, "wo-a", options{change: change})
	s.want(requests("connect", "ok"), 0) // there before it has happened
	s.want(requests("connect", "FailedToAcquireKey"), 0)
	p := startPeer(t, w, "dr-a")
	for i := range 20 {
		w.connect(spawnKey(fmt.Sprintf("doc-%d", i)))
	}
	backend := w.connect(spawnKey("doc-0")).BackendID
	for _, c := range []struct {
		subject string
		payload any
		kind    messages.Kind
	}{
		{messages.SubjectConnect, "{", messages.BadRequest},
		{messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "none"}}, messages.KeyUnheldNoSpawnConfig},
		{messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "doc-0", Tag: "red"}}, messages.KeyHeld},
		{messages.SubjectStatus, messages.StatusRequest{BackendID: "nobody"}, messages.NotFound},
	} {
		if _, refusal := w.ask(c.subject, c.payload); refusal == nil || refusal.Kind != c.kind {
			t.Errorf("%s was refused with %v, want %s", c.subject, refusal, c.kind)
		}
	}
	p.report(backend, messages.Ready)
	testkit.Eventually(t, "the reported actions gone", func() bool { return w.count("outbox where backend_id = $1", backend) == 0 })

	s.want(requests("connect", "ok"), 21)
	s.want(requests("connect", "BadRequest"), 1)
	s.want(requests("connect", "KeyUnheldNoSpawnConfig"), 1)
	s.want(requests("connect", "KeyHeld"), 1)
	s.want(requests("status", "NotFound"), 1)
	s.want(requests("register", "ok"), 1)
	s.want(requests("heartbeat", "ok"), 1)
	s.want(requests("report", "ok"), 1)
	s.want(`request_duration_seconds_count{endpoint="connect"}`, 24)
	s.want(`backends_spawned_total`, 20)
	s.want(`queue_requests{lane="connect"}`, 0)
	s.want(`queue_limit_requests{lane="connect"}`, 4096)
	s.want(`postgres_limit_connections`, 4)
	s.want(`nats_connected`, 1)
	s.want(`nats_reconnects_total`, 0)
	s.want(`info{version="1.2.3",worker="wo-a"}`, 1)
	s.want(`outbox_publish_failures_total{kind="event"}`, 0)
	if n := s.value(`outbox_published_total{kind="action"}`); n < 20 {
		t.Errorf("%v actions were published", n)
	}
	if n := s.value(`batch_requests_sum{lane="connect"}`); n != 24 {
		t.Errorf("the batches have %v requests", n)
	}
	_, text := s.get("/metrics")
	for _, other := range []string{"go_goroutines ", "process_open_fds ", `jetway_worker_outbox_rows{kind="spawn"} `} {
		if !strings.Contains(text, "\n"+other) {
			t.Errorf("no %s", other)
		}
	}
}

func TestI8MetricsCountOverloadAndPostgresAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link, dsn := w.link()
	s, change := show(t)
	startWorker(t, w, "wo-a", options{dsn: dsn, change: func(c *worker.Config) {
		change(c)
		c.Queue, c.Batch = 1, 1
	}})
	startPeer(t, w, "dr-a")
	w.connect(spawnKey("doc"))
	link.Stall()
	// Those that are taken wait for as long as the link is stalled; how long that is counts for nothing.
	const all, taken = 50, 8
	outcomes := make(chan string, all)
	for range all {
		reply := w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: "doc"}}, testkit.Patience)
		go func() {
			outcome := "ok"
			if _, refusal := w.await(reply); refusal != nil {
				outcome = string(refusal.Kind)
			}
			outcomes <- outcome
		}()
	}
	got := map[string]int{"ok": 1} // the first
	for range all - taken {
		got[testkit.Receive(t, outcomes, "a refusal while the link is stalled")]++
	}
	link.Cut() // what waits in the link is lost
	link.Heal()
	for range taken {
		got[testkit.Receive(t, outcomes, "an answer after it")]++
	}
	for _, outcome := range []string{"Overloaded", "Unavailable", "ok"} {
		s.want(requests("connect", outcome), float64(got[outcome]))
	}
	if got["Overloaded"] < all-taken {
		t.Errorf("too few were too many: %v", got)
	}
}

func TestMetricsCountTakeoversFailuresAndReconnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, change := show(t)
	link := testkit.NewFaultProxy(t, strings.TrimPrefix(w.url, "nats://"))
	startWorker(t, w, "wo-a", options{url: "nats://" + link.Addr(), change: change})
	startPeer(t, w, "dr-a")
	w.connect(spawnKey("doc"))
	_, err := w.db.Exec(t.Context(), "update lease set sealed_until = now() - interval '1 second'")
	must(t, err)
	w.connect(spawnKey("doc"))
	s.want("lease_takeovers_total", 1)

	link.Cut()
	testkit.Eventually(t, "the loss is shown", func() bool { return s.value("nats_connected") == 0 })
	// A row that a crash left behind cannot be published now.
	_, err = w.db.Exec(t.Context(), `insert into outbox (id, kind, backend_id, drone, status, due_at)
		values (nextval('outbox_id'), 'state', 'left-1', 'dr-a', 50, now())`)
	must(t, err)
	testkit.Eventually(t, "the failure is counted", func() bool {
		return s.value(`outbox_publish_failures_total{kind="event"}`) > 0
	})
	link.Heal()
	testkit.Eventually(t, "the reconnection is counted", func() bool { return s.value("nats_reconnects_total") >= 1 })
	testkit.Eventually(t, "the row is healed", func() bool { return w.count("outbox where backend_id = 'left-1'") == 0 })
	if s.value("outbox_healed_rows_total") < 1 {
		t.Error("no row counts as healed")
	}
}

func TestReadyzFollowsPostgresAndNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	database, dsn := w.link()
	bus := testkit.NewFaultProxy(t, strings.TrimPrefix(w.url, "nats://"))
	s, change := show(t)
	s.awaitReady(http.StatusServiceUnavailable, "not ready: starting")
	startWorker(t, w, "wo-a", options{dsn: dsn + " connect_timeout=4", url: "nats://" + bus.Addr(), change: change})
	s.awaitReady(http.StatusOK, "ready\n")
	for _, c := range []struct {
		link  *testkit.FaultProxy
		fault func()
		line  string
	}{
		{database, database.Cut, "not ready: Postgres"},
		{database, database.Stall, "not ready: Postgres"},
		{bus, bus.Cut, "not ready: NATS"},
		{bus, bus.Stall, "not ready: NATS"},
	} {
		c.fault()
		s.awaitReady(http.StatusServiceUnavailable, c.line)
		if code, text := s.get("/healthz"); code != http.StatusOK || text != "alive\n" {
			t.Errorf("a worker that waits is said to be %d %s", code, text)
		}
		c.link.Heal()
		s.awaitReady(http.StatusOK, "ready\n")
	}
}

func TestI7ReadyzSaysStoppingUntilWhatWasTakenIsReplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	database, dsn := w.link()
	s, change := show(t)
	stop := startWorker(t, w, "wo-a", options{dsn: dsn, change: change})
	startPeer(t, w, "dr-a")
	w.connect(spawnKey("doc"))
	s.awaitReady(http.StatusOK, "ready\n")
	database.Stall()
	reply := w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: "doc"}}, testkit.Patience)
	testkit.Eventually(t, "the statement is under way", func() bool { return s.value(`postgres_connections{state="in_use"}`) > 0 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	s.awaitReady(http.StatusServiceUnavailable, "not ready: stopping")
	database.Heal()
	if _, refusal := w.await(reply); refusal != nil {
		t.Errorf("what was taken got %v", refusal)
	}
	<-stopped
	s.awaitReady(http.StatusServiceUnavailable, "not ready: stopped\n")
}

func TestI6MetricsCountSweepsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, change := show(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) {
		change(c)
		c.SweepEvery = 100 * time.Millisecond
	}})
	startDrone(t, w, "dr-a", w.url)
	var ids []string
	for i := range 3 {
		ids = append(ids, w.connect(limited(fmt.Sprintf("doc-%d", i), 1, 0, nil)).BackendID)
	}
	for _, id := range ids {
		awaitEnd(t, w, id)
	}
	testkit.Eventually(t, "the sweeps are counted", func() bool { return s.value(`sweeps_total{cause="lifetime"}`) >= 3 })
	s.want(`sweeps_total{cause="lifetime"}`, 3)
	s.want(`sweeps_total{cause="lost"}`, 0)
}
