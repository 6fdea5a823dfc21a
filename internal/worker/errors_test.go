package worker_test

import (
	"encoding/json"
	"fmt"
	"net"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// The rows of the error table that need nothing broken.
func TestI4RefusedConnectLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	held := spawnKey("held")
	held.Key.Tag, held.SpawnConfig.ID = "blue", "held-1"
	w.connect(held)
	leaving := w.connect(spawnKey("leaving")).BackendID
	p.report(leaving, messages.Terminating)
	p.report("held-1", messages.Ready)
	w.settled(0)

	config := func(change func(*messages.SpawnConfig)) messages.ConnectRequest {
		r := spawnKey("new")
		change(r.SpawnConfig)
		return r
	}
	before := w.contents()
	for _, c := range []struct {
		name    string
		subject string
		payload any
		kind    messages.Kind
		code    int
	}{
		{"not JSON", messages.SubjectConnect, "{", messages.BadRequest, 400},
		{"other tag", messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "held", Tag: "red"}}, messages.KeyHeld, 409},
		{"no spawn config", messages.SubjectConnect, messages.ConnectRequest{Key: &messages.Key{Name: "new"}}, messages.KeyUnheldNoSpawnConfig, 409},
		{"neither key nor spawn config", messages.SubjectConnect, "{}", messages.KeyUnheldNoSpawnConfig, 409},
		{"id exists", messages.SubjectConnect, config(func(c *messages.SpawnConfig) { c.ID = "held-1" }), messages.BackendExists, 409},
		{"unknown cluster", messages.SubjectConnect, config(func(c *messages.SpawnConfig) { c.Cluster = "elsewhere.test" }), messages.NoDroneAvailable, 503},
		{"unknown pool", messages.SubjectConnect, config(func(c *messages.SpawnConfig) { c.Pool = "gpu" }), messages.NoDroneAvailable, 503},
		{"status", messages.SubjectStatus, messages.StatusRequest{BackendID: "nobody"}, messages.NotFound, 404},
		{"terminate", messages.SubjectTerminate, messages.TerminateRequest{BackendID: "nobody"}, messages.NotFound, 404},
		{"revoke", messages.SubjectRevoke, messages.RevokeRequest{BackendID: "nobody", User: new("u")}, messages.NotFound, 404},
		{"drain", messages.SubjectDrain, messages.DrainRequest{Drone: "dr-x"}, messages.NotFound, 404},
		{"undrain", messages.SubjectUndrain, messages.DrainRequest{Drone: "dr-x"}, messages.NotFound, 404},
		{"heartbeat of an old session", messages.HeartbeatSubject("dr-a"), messages.HeartbeatRequest{Session: "old", DroneTimeMS: 1, Ready: true}, messages.NotFound, 404},
		{"heartbeat of an unknown drone", messages.HeartbeatSubject("dr-x"), messages.HeartbeatRequest{Session: "s-dr-a", DroneTimeMS: 1}, messages.NotFound, 404},
		{"report of an unknown drone", messages.ReportSubject("dr-x"), messages.ReportRequest{Session: "s-dr-a", Reports: []messages.Report{stateOf("held-1", messages.Terminated)}}, messages.NotFound, 404},
		{"report of an old session", messages.ReportSubject("dr-a"), messages.ReportRequest{Session: "old", Reports: []messages.Report{stateOf("held-1", messages.Terminated)}}, messages.NotFound, 404},
		{"unknown token", messages.RouteSubject("px-a"), messages.RouteRequest{Token: "nothing"}, messages.NotFound, 404},
		{"unknown static token", messages.RouteSubject("px-a"), messages.RouteRequest{Token: "s.nothing"}, messages.NotFound, 404},
	} {
		_, refusal := w.await(w.send(c.subject, encode(c.payload), nats.Header{}))
		if refusal == nil || refusal.Kind != c.kind || refusal.Kind.Code() != c.code {
			t.Errorf("%s: %v, want %s (%d)", c.name, refusal, c.kind, c.code)
		}
		if after := w.contents(); after != before {
			t.Fatalf("%s changed\n%s\nto\n%s", c.name, before, after)
		}
	}
	w.refusedWhileLeaving("leaving")
	if after := w.contents(); after != before {
		t.Fatalf("a connect for a key whose backend is leaving changed\n%s\nto\n%s", before, after)
	}
	p.marker()
	wantNumbers(t, w, "held-1", messages.Scheduled, messages.Ready)
}

func TestI4OneRefusalDoesNotFailItsNeighbours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	taken := spawnKey("taken")
	taken.SpawnConfig.ID = "taken-1"
	w.connect(taken)
	var good, bad []<-chan *nats.Msg
	for i := range 60 {
		good = append(good, w.sendConnect(spawnKey(fmt.Sprintf("good-%d", i)), testkit.Patience))
		r := spawnKey(fmt.Sprintf("bad-%d", i))
		r.SpawnConfig.ID = "taken-1"
		bad = append(bad, w.sendConnect(r, testkit.Patience))
	}
	for i := range good {
		if resp, refusal := w.awaitConnect(good[i]); refusal != nil || !resp.Spawned {
			t.Errorf("a good one got %+v, %v", resp, refusal)
		}
		if _, refusal := w.await(bad[i]); refusal == nil || refusal.Kind != messages.BackendExists {
			t.Errorf("a bad one got %v", refusal)
		}
	}
	if n := w.count("lease where name like 'bad-%'"); n != 0 {
		t.Errorf("refused connects left %d leases", n)
	}
	if n := w.count("backend"); n != 61 {
		t.Errorf("%d backends, want 61", n)
	}
}

func TestI4NoDroneNoCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.DefaultCluster = "" }})
	_, refusal := w.ask(messages.SubjectConnect, spawnKey("doc"))
	if refusal == nil || refusal.Kind != messages.NoClusterProvided {
		t.Errorf("without a cluster: %v", refusal)
	}
	r := spawnKey("doc")
	r.SpawnConfig.Cluster = cluster
	if _, refusal = w.ask(messages.SubjectConnect, r); refusal == nil || refusal.Kind != messages.NoDroneAvailable {
		t.Errorf("without a drone: %v", refusal)
	}
	for _, table := range []string{"lease", "backend", "token", "outbox"} {
		if n := w.count(table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// link puts a faulty link between a worker and the database.
func (w *world) link() (*testkit.FaultProxy, string) {
	proxy := testkit.NewFaultProxy(w.t, pgtest.Cluster(w.t).TCPAddr())
	host, port, err := net.SplitHostPort(proxy.Addr())
	must(w.t, err)
	return proxy, w.dsn + " host=" + host + " port=" + port
}

func TestI8FullQueueIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link, dsn := w.link()
	startWorker(t, w, "wo-a", options{dsn: dsn, change: func(c *worker.Config) { c.Queue, c.Batch = 1, 1 }})
	startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("doc"))

	// Those that are taken wait for as long as the link is stalled, and the others do not.
	link.Stall()
	const all, taken = 100, 8 // no more than the connections to the database, and the queue
	refusals := make(chan *messages.Error, all)
	for range all {
		reply := w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: "doc"}}, testkit.Patience)
		go func() {
			_, refusal := w.await(reply)
			refusals <- refusal
		}()
	}
	for range all - taken {
		if refusal := <-refusals; refusal == nil || refusal.Kind != messages.Overloaded {
			t.Errorf("the answer without a database is %v, want it to be Overloaded", refusal)
		}
	}
	link.Cut() // what waits in the link is lost
	link.Heal()
	for range taken {
		<-refusals
	}
	testkit.Eventually(t, "recovery", func() bool {
		resp, refusal := w.awaitConnect(w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: "doc"}}, testkit.Patience))
		return refusal == nil && resp.BackendID == first.BackendID
	})
}

func TestI4UnavailableWhileDatabaseIsAwayAndBackAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link, dsn := w.link()
	startWorker(t, w, "wo-a", options{dsn: dsn})
	p := startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("doc"))
	p.report(first.BackendID, messages.Ready)
	w.settled(0)

	link.Cut()
	before := w.contents()
	for subject, payload := range map[string]any{
		messages.SubjectConnect:           spawnKey("other"),
		messages.SubjectStatus:            messages.StatusRequest{BackendID: first.BackendID},
		messages.SubjectTerminate:         messages.TerminateRequest{BackendID: first.BackendID},
		messages.SubjectRevoke:            messages.RevokeRequest{BackendID: first.BackendID, User: new("")},
		messages.SubjectDrain:             messages.DrainRequest{Drone: "dr-a"},
		messages.SubjectUndrain:           messages.DrainRequest{Drone: "dr-a"},
		messages.SubjectBackends:          "{}",
		messages.SubjectDrones:            "{}",
		messages.RegisterSubject("dr-b"):  messages.RegisterRequest{Session: "s", MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: 1},
		messages.HeartbeatSubject("dr-a"): messages.HeartbeatRequest{Session: p.session, DroneTimeMS: 1},
		messages.ReportSubject("dr-a"):    messages.ReportRequest{Session: p.session, Reports: []messages.Report{stateOf(first.BackendID, messages.Terminated)}},
		messages.RouteSubject("px-a"):     messages.RouteRequest{Token: first.Token},
		messages.KeepaliveSubject("px-a"): messages.KeepaliveRequest{Backends: []string{first.BackendID}},
	} {
		if _, refusal := w.ask(subject, payload); refusal == nil || refusal.Kind != messages.Unavailable {
			t.Errorf("%s without a database: %v", subject, refusal)
		}
	}
	if after := w.contents(); after != before {
		t.Errorf("refused requests changed\n%s\nto\n%s", before, after)
	}
	link.Heal()
	testkit.Eventually(t, "recovery", func() bool {
		data, refusal := w.ask(messages.SubjectConnect, spawnKey("other"))
		return refusal == nil && json.Valid(data)
	})
	p.heartbeat()
	p.report(first.BackendID, messages.Terminated)
	wantNumbers(t, w, first.BackendID, messages.Scheduled, messages.Ready, messages.Terminated)
}
