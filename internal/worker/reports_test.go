package worker_test

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func TestI5ReportedStatesArePublishedOnceInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	id := w.connect(spawnKey("doc")).BackendID
	p.awaitAction(id, messages.SpawnID(id))

	p.report(id, messages.Loading, messages.Starting, messages.Waiting)
	// An acknowledged report is on the bus.
	want := []messages.Status{messages.Scheduled, messages.Loading, messages.Starting, messages.Waiting}
	wantNumbers(t, w, id, want...)
	if n := w.count("outbox where backend_id = $1", id); n != 0 {
		t.Errorf("%d outbox rows are left of a backend whose spawn was taken", n)
	}
	w.settled(0)
	before := w.contents()
	p.report(id, messages.Waiting)
	p.report(id, messages.Starting, messages.Loading, messages.Waiting)
	if after := w.contents(); after != before {
		t.Errorf("reports of the past changed\n%s\nto\n%s", before, after)
	}
	wantNumbers(t, w, id, want...)

	p.report(id, messages.Starting, messages.Ready, messages.Ready, messages.Waiting, messages.Terminating)
	want = append(want, messages.Ready, messages.Terminating)
	wantNumbers(t, w, id, want...)
	p.report(id, messages.Terminated)
	want = append(want, messages.Terminated)
	p.report(id, messages.Terminated)
	p.report(id, messages.Ready)
	wantNumbers(t, w, id, want...)
	info := w.status(id)
	if info.Status != messages.Terminated || info.LastStatus != messages.Terminating || info.Address != "127.0.0.1:4000" || info.Reason != messages.ReasonExternal {
		t.Errorf("in the end it is %+v", info)
	}
	if n := w.count("lease where released_at is null"); n != 0 {
		t.Error("the lease was not released with the end")
	}
}

// The same reports several times at once, to whichever worker, in any order.
func TestI5ReorderedAndRepeatedReportsNeverGoBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	ids := make([]string, 10)
	for i := range ids {
		ids[i] = w.connect(spawnKey("doc-" + string(rune('a'+i)))).BackendID
	}
	for _, id := range ids { // a drone reports what it has got a spawn for, and that follows the event
		testkit.Eventually(t, "the connect's event is on the bus", func() bool { return len(numbers(t, w, id)) > 0 })
	}
	var replies []<-chan *nats.Msg
	for _, s := range []messages.Status{messages.Loading, messages.Waiting, messages.Starting, messages.Ready, messages.Waiting, messages.Terminating, messages.Loading} {
		r := messages.ReportRequest{Session: p.session}
		for _, id := range ids {
			r.Reports = append(r.Reports, stateOf(id, s))
		}
		for range 2 {
			replies = append(replies, w.send(messages.ReportSubject(p.name), messages.Encode(r), nil))
		}
	}
	for _, reply := range replies {
		if _, refusal := w.await(reply); refusal != nil {
			t.Errorf("a report was refused: %v", refusal)
		}
	}
	for _, id := range ids {
		got := numbers(t, w, id)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("the states of %s on the bus are %v", id, got)
		}
		if got[0] != messages.Scheduled || got[len(got)-1] != messages.Terminating || w.status(id).Status != messages.Terminating {
			t.Errorf("the states of %s on the bus are %v, it is %v", id, got, w.status(id).Status)
		}
	}
}

func TestI1ReportForAnothersBackendIsRefusedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	mine := w.connect(spawnKey("mine")).BackendID
	p.heartbeat()
	other := startPeer(t, w, "dr-b")
	w.settled(1) // the spawn of mine
	before := w.contents()
	refusal := other.tryReport(stateOf(mine, messages.Terminated))
	if refusal == nil || refusal.Kind != messages.NotFound || !slices.Equal(refusal.Backends, []string{mine}) {
		t.Errorf("a report for another drone's backend: %+v", refusal)
	}
	refusal = p.tryReport(stateOf(mine, messages.Ready), stateOf("nobody", messages.Ready))
	if refusal == nil || refusal.Kind != messages.NotFound || !slices.Equal(refusal.Backends, []string{"nobody"}) {
		t.Errorf("a report for a backend that does not exist: %+v", refusal)
	}
	if after := w.contents(); after != before {
		t.Errorf("refused reports changed\n%s\nto\n%s", before, after)
	}
	wantNumbers(t, w, mine, messages.Scheduled)
	if r := other.heartbeat(mine); len(r.Renewed) != 0 || !slices.Equal(r.Lost, []string{mine}) {
		t.Errorf("another drone renewed the lease: %+v", r)
	}
}

// An action that an agent was given and did not acknowledge before it died is the next
// run's within seconds. Found by torture: published again, it was a duplicate to NATS, and
// came when the server had given up waiting for the dead one, half a minute later.
func TestI3ActionOfADeadAgentIsTheNextRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	id := w.connect(spawnKey("doc")).BackendID
	p.awaitAction(id, messages.SpawnID(id))
	p.report(id, messages.Ready)
	p.stopConsuming()

	dying := natstest.Conn(t, w.url)
	got := make(chan *nats.Msg, 10)
	_, err := dying.ChanSubscribe(messages.DeliverSubject(p.name), got)
	must(t, err)
	must(t, dying.Flush())
	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: id}); refusal != nil {
		t.Fatal(refusal)
	}
	for msg := range got {
		if msg.Header.Get("Status") == "" {
			break
		}
	}
	dying.Close()
	p.session = "s-next"
	_, refusal := w.ask(messages.RegisterSubject(p.name), messages.RegisterRequest{
		Session: p.session, MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: p.clock.Add(1), Backends: []string{id},
	})
	if refusal != nil {
		t.Fatal(refusal)
	}
	p.consume()
	p.awaitAction(id, messages.TerminateID(id, false))
}

// A report may cross the registration that begins its session, as after a restart of the
// agent: what the session has taken over is its own. Found by torture: the drone was told
// that the backend was not, and killed it.
func TestI3ReportThatCrossesItsRegistrationIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	id := w.connect(spawnKey("doc")).BackendID
	p.awaitAction(id, messages.SpawnID(id))
	p.report(id, messages.Loading)

	// The backends are looked at before the registration, whether the session is known after it.
	registration, err := w.db.Begin(t.Context())
	must(t, err)
	defer func() { _ = registration.Rollback(context.Background()) }()
	_, err = registration.Exec(t.Context(), "lock table drone in access exclusive mode")
	must(t, err)
	p.session = "s-next"
	reply := w.send(messages.ReportSubject(p.name), messages.Encode(messages.ReportRequest{
		Session: p.session, Reports: []messages.Report{stateOf(id, messages.Starting)},
	}), nil)
	testkit.Eventually(t, "the worker asks whether the session is known", func() bool {
		return w.count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'select exists (select from drone %'") == 1
	})
	for _, sql := range []string{"update drone set session = 's-next'", "update backend set session = 's-next'"} {
		_, err = registration.Exec(t.Context(), sql)
		must(t, err)
	}
	must(t, registration.Commit(t.Context()))
	if _, refusal := w.await(reply); refusal != nil {
		t.Fatalf("the report is refused: %v", refusal)
	}
	wantNumbers(t, w, id, messages.Scheduled, messages.Loading, messages.Starting)
}

func TestI3TerminateIsSentOnceSoftlyAndOnceHard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	id := w.connect(spawnKey("doc")).BackendID
	p.report(id, messages.Ready)
	terminate := func(hard bool) {
		t.Helper()
		var replies []<-chan *nats.Msg
		for range 4 {
			replies = append(replies, w.send(messages.SubjectTerminate, messages.Encode(messages.TerminateRequest{BackendID: id, Hard: hard}), nil))
		}
		for _, reply := range replies {
			if data, refusal := w.await(reply); refusal != nil || string(data) != "{}" {
				t.Errorf("terminate gave %s, %v", data, refusal)
			}
		}
	}
	terminate(false)
	terminate(true)
	terminate(false) // a soft one after a hard one adds nothing
	p.awaitAction(id, messages.TerminateID(id, true))
	p.marker()
	p.marker()
	got := p.seen(id)
	if len(got) != 3 || got[0].Spawn == nil || got[1].ID != messages.TerminateID(id, false) || got[1].Terminate.Hard ||
		got[2].ID != messages.TerminateID(id, true) || !got[2].Terminate.Hard || got[2].Terminate.Reason != messages.ReasonExternal {
		t.Errorf("the drone got %+v, want spawn, one soft and one hard termination", got)
	}
	if n := w.count("outbox where backend_id = $1 and kind = 'terminate'", id); n != 2 {
		t.Errorf("%d terminations are on record, want one soft and one hard", n)
	}
	p.report(id, messages.HardTerminating)
	if n := w.count("outbox where backend_id = $1", id); n != 0 {
		t.Errorf("%d actions stand on record after they were taken", n)
	}
	p.report(id, messages.Terminated)
	w.settled(2) // the markers' spawns
	before := w.contents()
	terminate(false)
	terminate(true)
	if after := w.contents(); after != before {
		t.Errorf("terminating what has ended changed\n%s\nto\n%s", before, after)
	}
}

func TestI6BackendsOfAnEarlierSessionEndAsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	kept, gone := w.connect(spawnKey("kept")).BackendID, w.connect(spawnKey("gone")).BackendID
	untaken := w.connect(spawnKey("untaken")).BackendID
	p.report(kept, messages.Ready)
	p.report(gone, messages.Ready)
	data, refusal := w.ask(messages.RegisterSubject("dr-a"), messages.RegisterRequest{
		Session: "s-2", MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: 5, Backends: []string{kept, "stranger"},
	})
	if refusal != nil {
		t.Fatal(refusal)
	}
	r := as[messages.RegisterResponse](t, data)
	if len(r.Sealed) > 0 || !slices.Equal(r.Lost, []string{"stranger"}) || r.Deadlines.HardTerminateAtMS != 5+longTTL.Milliseconds()*5/6 {
		t.Errorf("registered with %+v", r)
	}
	wantNumbers(t, w, gone, messages.Scheduled, messages.Ready, messages.Terminated)
	if info := w.status(gone); info.Reason != messages.ReasonLost {
		t.Errorf("what the drone no longer runs is %+v", info)
	}
	wantNumbers(t, w, kept, messages.Scheduled, messages.Ready)
	// I5: a spawn published again after its backend has ended would take it back to scheduled.
	if n := w.count("outbox where backend_id = $1 and kind = 'spawn'", untaken); n != 0 {
		t.Error("the spawn of a backend that was given up is still on record")
	}
	if refusal := p.tryReport(stateOf(kept, messages.Terminated)); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("the earlier session reports: %v", refusal)
	}
	p.session = "s-2"
	p.report(kept, messages.Terminated)

	// I3: told to end what it does not run, the drone says that it has ended, which
	// takes the action off the record; it would be published for ever otherwise.
	p.awaitAction(gone, messages.TerminateID(gone, true))
	p.report(gone, messages.Terminated)
	if n := w.count("outbox where backend_id = $1", gone); n != 0 {
		t.Errorf("%d actions are still on record of a backend that has ended", n)
	}
}

func TestServiceIsListedByTheMicroProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	type about struct {
		Type, Name, Version string
		Metadata            map[string]string
		Endpoints           []struct{ Name, Subject string }
	}
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		data, refusal := w.ask("$SRV."+verb+".jetway", "")
		if refusal != nil {
			t.Fatalf("%s: %v", verb, refusal)
		}
		got := as[about](t, data)
		if got.Name != "jetway" || got.Version != "1.2.3" || got.Metadata["worker"] != "wo-a" {
			t.Errorf("%s: %+v", verb, got)
		}
		if verb == "PING" {
			continue
		}
		subjects := make(map[string]string)
		for _, e := range got.Endpoints {
			subjects[e.Name] = e.Subject
		}
		for name, subject := range map[string]string{
			"connect": messages.SubjectConnect, "terminate": messages.SubjectTerminate, "status": messages.SubjectStatus,
			"backends": messages.SubjectBackends, "drones": messages.SubjectDrones,
			"register": messages.SubjectAnyRegister, "heartbeat": messages.SubjectAnyHeartbeat, "report": messages.SubjectAnyReport,
			"route": messages.SubjectAnyRoute, "keepalive": messages.SubjectAnyKeepalive,
		} {
			if subjects[name] != subject {
				t.Errorf("%s: the endpoint %s is at %q, want %q", verb, name, subjects[name], subject)
			}
		}
	}
}

func TestI7WorkerStoppedUnderLoadRepliesToAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	leaving := w.connect(spawnKey("leaving")).BackendID
	p.report(leaving, messages.Terminating)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		<-stopping
		stop()
	}()
	var replies []<-chan *nats.Msg
	for i := range 600 {
		name := "doc-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		if i%20 == 0 {
			name = "leaving"
		}
		replies = append(replies, w.sendConnect(spawnKey(name), testkit.Patience))
		if i == 200 {
			// Both workers are busy by now.
			w.connect(spawnKey("doc-aa"))
			close(stopping)
		}
	}
	<-stopped
	p.report(leaving, messages.Terminated)
	granted := 0
	for i, reply := range replies {
		_, refusal := w.await(reply)
		switch {
		case refusal == nil:
			granted++
		case refusal.Kind != messages.Unavailable:
			t.Errorf("request %d got %v", i, refusal)
		}
	}
	if granted < 400 {
		t.Errorf("only %d of %d were granted while one of two workers stopped", granted, len(replies))
	}
	// What was committed is carried out, also what the stopped worker committed.
	testkit.Eventually(t, "all spawns at the drone", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		spawns := make(map[string]bool)
		for _, a := range p.actions {
			spawns[a.BackendID] = a.Spawn != nil
		}
		return len(spawns) == w.count("backend")
	})
}
