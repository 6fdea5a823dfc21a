package worker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// smallNATS takes messages of so many bytes.
func smallNATS(t *testing.T, maxPayload int32) string {
	t.Helper()
	return natstest.Configured(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), MaxPayload: maxPayload})
}

// talkative makes backends that have ended with a message that is as long as it can be, and twice that in JSON.
func (w *world) talkative(n int) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), `insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, message, ended_at)
		select 'b-' || lpad(i::text, 4, '0'), '', 'k-' || i, '', 'c', '', 'dr-a', 's-1', 70, repeat('"', 4096), now() from generate_series(1, $1) i`, n)
	must(w.t, err)
}

// I7: a page ends before it is longer than the server takes, and the next goes on; what is too long alone is
// answered with an error that says so.
func TestI7NoReplyIsLostToItsSize(t *testing.T) {
	t.Parallel()
	for _, most := range testkit.Sized(t, []int32{1 << 20, 16 << 10}, []int32{1 << 20, 64 << 10, 16 << 10}) {
		backends, drones := 210, 120
		if most < 1<<20 { // a few need several pages
			backends, drones = testkit.Sized(t, 40, backends), testkit.Sized(t, 40, drones)
		}
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, smallNATS(t, most), pgtest.Database(t))
			startWorker(t, w, "wo-a", options{})
			w.talkative(backends)
			_, err := w.db.Exec(t.Context(), `insert into drone (name, cluster, pool, session, runtime, version, max_backends)
				select 'dr-' || lpad(i::text, 4, '0'), 'c', '', 's-1', repeat('"', 255), repeat('"', 255), 0 from generate_series(1, $1) i`, drones)
			must(t, err)
			seen := ""
			for r, n := (messages.BackendsRequest{All: true}), 0; ; {
				data, refusal := w.ask(messages.SubjectBackends, r)
				if refusal != nil || len(data) > int(most) {
					t.Fatalf("a page of %d bytes: %v", len(data), refusal)
				}
				page := as[messages.BackendsResponse](t, data)
				for i := range page.Backends {
					if id := page.Backends[i].BackendID; id <= seen {
						t.Fatalf("%s comes after %s", id, seen)
					} else {
						seen = id
						n++
					}
				}
				if r.After = page.Next; r.After == "" {
					if n != backends {
						t.Errorf("the pages have %d backends", n)
					}
					break
				}
			}
			n := 0
			for r := (messages.DronesRequest{}); ; {
				data, refusal := w.ask(messages.SubjectDrones, r)
				if refusal != nil {
					t.Fatalf("a page of drones: %v", refusal)
				}
				page := as[messages.DronesResponse](t, data)
				n += len(page.Drones)
				if r.After = page.Next; r.After == "" {
					break
				}
			}
			if n != drones {
				t.Errorf("the pages have %d drones", n)
			}
		})
	}
	t.Run("one alone", func(t *testing.T) {
		t.Parallel()
		w := newWorldOf(t, smallNATS(t, 6<<10), pgtest.Database(t))
		startWorker(t, w, "wo-a", options{})
		w.talkative(1)
		for subject, payload := range map[string]any{
			messages.SubjectStatus:   messages.StatusRequest{BackendID: "b-0001"},
			messages.SubjectBackends: messages.BackendsRequest{All: true},
		} {
			if _, refusal := w.ask(subject, payload); refusal == nil || !strings.Contains(refusal.Message, "max_payload") {
				t.Errorf("%s is answered %v", subject, refusal)
			}
		}
	})
}

// awaitLock waits until somebody waits for a lock.
func (w *world) awaitLock() {
	w.t.Helper()
	testkit.Eventually(w.t, "somebody waits for the lock", func() bool {
		return w.count("pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()") > 0
	})
}

// I8: who lists, however much, holds up nobody whose sessions or leases depend on an answer. Listings hang here, for
// somebody locks the drones.
func TestI8NobodyWaitsForListings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	backend := w.connect(spawnKey("doc")).BackendID
	tx, err := w.db.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	_, err = tx.Exec(t.Context(), "lock table drone in access exclusive mode")
	must(t, err)
	const asked = 60
	listings := make([]<-chan *nats.Msg, asked)
	for i := range listings {
		listings[i] = w.send(messages.SubjectDrones, nil, nats.Header{"Jetway-Timeout": {"60s"}})
	}
	w.awaitLock()
	for _, c := range []struct {
		subject string
		payload any
	}{
		{messages.KeepaliveSubject("px-a"), messages.KeepaliveRequest{Backends: []string{backend}}},
		{messages.RouteSubject("px-a"), messages.RouteRequest{Token: "nowhere"}},
		{messages.SubjectStatus, messages.StatusRequest{BackendID: backend}},
	} {
		if _, refusal := w.ask(c.subject, c.payload); refusal != nil && refusal.Kind != messages.NotFound {
			t.Errorf("%s: %v", c.subject, refusal)
		}
	}
	waiting := 0
	for _, reply := range listings {
		if len(reply) == 0 {
			waiting++
		}
	}
	// A few may have given up waiting for the lock, but nobody waited for all of them.
	if waiting < asked/2 {
		t.Errorf("only %d of %d listings were still waiting", waiting, asked)
	}
	must(t, tx.Rollback(t.Context()))
	for _, reply := range listings {
		_, _ = w.await(reply)
	}
}

// Heartbeats do not wait for registrations, which may have to wait for JetStream, nor for reports.
func TestI8HeartbeatsDoNotWaitForRegistrationsOrReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.SweepEvery, c.RetainEvery = time.Hour, time.Hour }})
	p := startPeer(t, w, "dr-a")
	other := startPeer(t, w, "dr-b")
	// A drone that registers writes its row; another's heartbeat does not.
	tx, err := w.db.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	_, err = tx.Exec(t.Context(), "select from drone where name = 'dr-b' for update")
	must(t, err)
	held := make([]<-chan *nats.Msg, 40)
	for i := range held {
		held[i] = w.send(messages.RegisterSubject("dr-b"), messages.Encode(messages.RegisterRequest{Session: other.session, MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: 2000}),
			nats.Header{"Jetway-Timeout": {"60s"}})
	}
	w.awaitLock()
	p.heartbeat()
	waiting := 0
	for _, reply := range held {
		if len(reply) == 0 {
			waiting++
		}
	}
	if waiting < len(held)/2 {
		t.Errorf("only %d of %d registrations were still waiting", waiting, len(held))
	}
	must(t, tx.Rollback(t.Context()))
	for _, reply := range held {
		_, _ = w.await(reply)
	}
}

// I8: large requests are refused before a queue that takes thousands of them has their bytes, each with one reply.
// What is taken waits here, for somebody locks the keys.
func TestI8WhatWaitsIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	tx, err := w.db.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	_, err = tx.Exec(t.Context(), "lock table lease in access exclusive mode")
	must(t, err)
	large := spawnKey("doc")
	large.SpawnConfig.Executable = json.RawMessage(`{"env":{"A":"` + strings.Repeat("x", 250<<10) + `"}}`)
	// 16 MiB hold 65 of them, as long as those wait: on a slow machine the first may have given up when the last comes.
	testkit.Eventually(t, "large requests are refused for want of room", func() bool {
		replies := make([]<-chan *nats.Msg, 120)
		for i := range replies {
			replies[i] = w.sendConnect(large, 20*time.Second)
		}
		full := 0
		for _, reply := range replies {
			_, refusal := w.await(reply)
			if refusal != nil && refusal.Kind == messages.Overloaded && strings.Contains(refusal.Message, "MiB") {
				full++
			}
		}
		return full > 0
	})
	must(t, tx.Rollback(t.Context()))
	// What was replied to counts no more.
	testkit.Eventually(t, "there is room again", func() bool {
		_, refusal := w.ask(messages.SubjectConnect, large)
		return refusal != nil && refusal.Kind == messages.NoDroneAvailable
	})
}

// serviceStats asks as nats micro stats does.
func serviceStats(t *testing.T, w *world) map[string]*micro.EndpointStats {
	t.Helper()
	reply, err := w.nc.Request("$SRV.STATS.jetway", nil, testkit.Patience)
	must(t, err)
	stats := as[micro.Stats](t, reply.Data)
	if stats.Type != micro.StatsResponseType || stats.Name != "jetway" || stats.ID == "" || stats.Started.IsZero() {
		t.Errorf("the service says %s", reply.Data)
	}
	byName := map[string]*micro.EndpointStats{}
	for _, e := range stats.Endpoints {
		byName[e.Name] = e
	}
	return byName
}

func TestServiceStatsCountErrorsAndRealDurations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	const granted, refused = 20, 30
	backend := ""
	for i := range granted {
		backend = w.connect(spawnKey(fmt.Sprintf("doc-%d", i))).BackendID
	}
	for range refused {
		if _, refusal := w.ask(messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "none"}}); refusal == nil {
			t.Error("a connect that cannot be granted was")
		}
	}
	// One status takes as long as somebody locks the table.
	tx, err := w.db.Begin(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	_, err = tx.Exec(t.Context(), "lock table backend in access exclusive mode")
	must(t, err)
	reply := w.send(messages.SubjectStatus, messages.Encode(messages.StatusRequest{BackendID: backend}), nil)
	w.awaitLock()
	began := time.Now()
	<-time.After(300 * time.Millisecond)
	least := time.Since(began)
	must(t, tx.Rollback(t.Context()))
	_, _ = w.await(reply)

	stats := serviceStats(t, w)
	if len(stats) != 23 {
		t.Errorf("there are %d endpoints", len(stats))
	}
	connect, status := stats["connect"], stats["status"]
	if connect.NumRequests != granted+refused || connect.NumErrors != refused || !strings.HasPrefix(connect.LastError, "409:KeyUnheldNoSpawnConfig: ") {
		t.Errorf("connects are %+v", connect)
	}
	if connect.AverageProcessingTime != connect.ProcessingTime/(granted+refused) || connect.AverageProcessingTime < 50*time.Microsecond {
		t.Errorf("connects took %s on average, %s in all", connect.AverageProcessingTime, connect.ProcessingTime)
	}
	if status.NumRequests != 1 || status.NumErrors != 0 || status.ProcessingTime < least {
		t.Errorf("a status that took more than %s is %+v", least, status)
	}
	info, err := w.nc.Request("$SRV.INFO.jetway", nil, testkit.Patience)
	must(t, err)
	if info := as[micro.Info](t, info.Data); len(info.Endpoints) != 23 || info.Endpoints[0].Subject != messages.SubjectConnect || info.Metadata["default_cluster"] != cluster {
		t.Errorf("the service is %+v", info)
	}
}

// A deadline that is too short is not a database that is away.
func TestADeadlineThatPassesIsSaidAsThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	backend := w.connect(spawnKey("doc"))
	for subject, payload := range map[string]any{
		messages.SubjectConnect:           spawnKey("another"),
		messages.SubjectStatus:            messages.StatusRequest{BackendID: backend.BackendID},
		messages.SubjectBackends:          nil,
		messages.SubjectDrones:            nil,
		messages.SubjectRevoke:            messages.RevokeRequest{BackendID: backend.BackendID, Token: backend.Token},
		messages.SubjectTerminate:         messages.TerminateRequest{BackendID: backend.BackendID},
		messages.SubjectDrain:             messages.DrainRequest{Drone: "dr-a"},
		messages.SubjectUndrain:           messages.DrainRequest{Drone: "dr-a"},
		messages.RouteSubject("px-a"):     messages.RouteRequest{Token: backend.Token},
		messages.KeepaliveSubject("px-a"): messages.KeepaliveRequest{Backends: []string{backend.BackendID}},
		messages.RegisterSubject("dr-b"):  messages.RegisterRequest{Session: "s", MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: 1},
		messages.HeartbeatSubject("dr-a"): messages.HeartbeatRequest{Session: p.session, DroneTimeMS: 1, Ready: true},
		messages.ReportSubject("dr-a"):    messages.ReportRequest{Session: p.session, Reports: []messages.Report{stateOf(backend.BackendID, messages.Loading)}},
	} {
		if _, refusal := w.await(w.send(subject, messages.Encode(payload), nats.Header{"Jetway-Timeout": {"999us"}})); refusal == nil || refusal.Kind != messages.BadRequest {
			t.Errorf("%s in no time: %v", subject, refusal)
		}
		for range 3 {
			_, refusal := w.await(w.send(subject, messages.Encode(payload), nats.Header{"Jetway-Timeout": {"1ms"}}))
			if refusal != nil && (refusal.Kind != messages.Unavailable && refusal.Kind != messages.Overloaded || strings.Contains(refusal.Message, "database") || strings.Contains(refusal.Message, "reached")) {
				t.Errorf("%s within a millisecond: %v", subject, refusal)
			}
		}
	}
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) with(part string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			lines = append(lines, line)
		}
	}
	return lines
}

// A worker that has other flags than those that run says what differs, once of each.
func TestAWorkerSaysThatAnotherIsSetUpDifferently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	var same, other logs
	startWorker(t, w, "wo-b", options{change: func(c *worker.Config) { c.Log = slog.New(slog.NewTextHandler(&same, nil)) }})
	startWorker(t, w, "wo-c", options{change: func(c *worker.Config) {
		c.DefaultCluster, c.Streams = "", bus.Streams{Logs: 64 << 20}
		c.CompareEvery = time.Second
		c.Log = slog.New(slog.NewTextHandler(&other, nil))
	}})
	const said = "is set up differently"
	testkit.Eventually(t, "it is said of both others, twice", func() bool { return len(other.with(said)) == 4 })
	for _, want := range []string{"what=default_cluster", "what=stream_logs", "other=wo-a", "other=wo-b", "there=" + cluster} {
		if len(other.with(want)) != 2 {
			t.Errorf("%s is not said twice: %s", want, other.with(said))
		}
	}
	if lines := same.with("other=wo-a"); len(lines) > 0 {
		t.Errorf("of the same it is said %s", lines)
	}
}

// Core NATS goes on when two of three servers are away, and JetStream does not: then nothing is published, and
// the worker is not ready.
func TestReadyzSaysThatJetStreamHasNoQuorum(t *testing.T) {
	t.Parallel()
	servers := make([]*server.Server, 3)
	ports := make([]int, len(servers))
	var routes []*url.URL
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		ports[i] = listener.Addr().(*net.TCPAddr).Port
		routes = append(routes, &url.URL{Scheme: "nats", Host: listener.Addr().String()})
		must(t, listener.Close())
	}
	for i := range servers {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]}, Routes: routes,
		})
		must(t, err)
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers[i] = s
	}
	for _, s := range servers {
		s.Start()
	}
	for _, s := range servers {
		if !s.ReadyForConnections(testkit.Patience) {
			t.Fatal("a server takes no connections")
		}
	}
	testkit.Eventually(t, "the servers have a leader", func() bool {
		return slices.ContainsFunc(servers, (*server.Server).JetStreamIsLeader)
	})
	w := newWorldOf(t, servers[2].ClientURL(), pgtest.Database(t))
	s, change := show(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) {
		change(c)
		c.Streams = bus.Streams{Replicas: 3, Actions: 8 << 20, Events: 8 << 20, Logs: 8 << 20}
	}})
	s.awaitReady(http.StatusOK, "ready\n")
	for _, away := range servers[:2] {
		away.Shutdown()
		away.WaitForShutdown()
	}
	s.awaitReady(http.StatusServiceUnavailable, "not ready: JetStream takes nothing")
}
