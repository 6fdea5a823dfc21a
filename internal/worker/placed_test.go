package worker_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func refusal(backend string) messages.Report {
	return messages.Report{BackendID: backend, Refused: true, State: messages.State{
		Status: messages.Terminated, Reason: messages.ReasonStartFailed, Message: "the drone is full",
	}}
}

// twoPeers are drones of which the first is given the next backend, and the second has
// a clock of its own.
func twoPeers(t *testing.T, w *world) (first, second *peer) {
	t.Helper()
	first, second = startPeer(t, w, "dr-a"), startPeer(t, w, "dr-b")
	second.clock.Store(9_000_000)
	second.heartbeat()
	return first, second
}

// spawnOn connects until the drone that is wanted is picked.
func spawnOn(t *testing.T, w *world, p *peer, key string) messages.ConnectResponse {
	t.Helper()
	var resp messages.ConnectResponse
	testkit.Eventually(t, "a backend on "+p.name, func() bool {
		resp = w.connect(spawnKey(key + nats.NewInbox()))
		return resp.Drone == p.name
	})
	return resp
}

func TestI1I3RefusedBackendStartsOnAnotherDroneUnderTheSameLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	full, roomy := twoPeers(t, w)
	first := spawnOn(t, w, full, "doc")
	id := first.BackendID
	before := full.awaitAction(id, messages.SpawnID(id))
	if refused := full.tryReport(refusal(id)); refused != nil {
		t.Fatal(refused)
	}
	after := roomy.awaitAction(id, messages.SpawnAgainID(id, 1))
	if after.Spawn.FencingToken != before.Spawn.FencingToken || after.Spawn.Session != roomy.session || after.Spawn.Key != before.Spawn.Key ||
		string(after.Spawn.Executable) != string(before.Spawn.Executable) || after.Spawn.Deadlines.SoftTerminateAtMS < 9_000_000 {
		t.Errorf("the spawn is %+v after %+v", after.Spawn, before.Spawn)
	}
	wantNumbers(t, w, id, messages.Scheduled)
	if info := w.status(id); info.Drone != "dr-b" || info.Status != messages.Scheduled {
		t.Errorf("it is %+v", info)
	}
	// The drone had not heard that its refusal is known, and says it again.
	if refused := full.tryReport(refusal(id)); refused == nil || refused.Kind != messages.NotFound || !slices.Equal(refused.Backends, []string{id}) {
		t.Errorf("refused again: %v", refused)
	}
	if r := full.heartbeat(id); !slices.Equal(r.Lost, []string{id}) {
		t.Errorf("the old drone's renewal gives %+v", r)
	}
	roomy.report(id, messages.Loading, messages.Ready)
	wantNumbers(t, w, id, messages.Scheduled, messages.Loading, messages.Ready)
	if r, ok := w.route(first.Token); !ok || r.BackendID != id || r.Address == "" {
		t.Errorf("the token that the connect gave leads to %+v", r)
	}
	full.heartbeat()
	last := spawnOn(t, w, full, "last").BackendID
	full.awaitAction(last, messages.SpawnID(last))
	if got := append(full.seen(id), roomy.seen(id)...); len(got) != 2 {
		t.Errorf("the drones were told %+v", got)
	}
	if n := w.count("outbox where backend_id = $1", id); n != 0 {
		t.Errorf("%d rows are on record of what was taken", n)
	}
}

func TestI6BackendThatNoDroneHasRoomForEndsAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	one, other := twoPeers(t, w)
	first := spawnOn(t, w, one, "doc")
	id := first.BackendID
	for _, p := range []*peer{one, other} {
		if refused := p.tryReport(refusal(id)); refused != nil {
			t.Fatalf("%s: %v", p.name, refused)
		}
	}
	wantNumbers(t, w, id, messages.Scheduled, messages.Terminated)
	end := awaitEnd(t, w, id)
	if end.Reason != messages.ReasonStartFailed || !strings.HasPrefix(end.Message, "no drone had room") || !strings.Contains(end.Message, "the drone is full") {
		t.Errorf("it ended as %+v", end.State)
	}
	// Both are full until they speak.
	if _, refused := w.awaitConnect(w.sendConnect(spawnKey("other"), testkit.Patience)); refused == nil || refused.Kind != messages.NoDroneAvailable {
		t.Errorf("a connect with all drones full: %v", refused)
	}
	one.heartbeat()
	if next := w.connect(spawnKey("other")); next.Drone != one.name {
		t.Errorf("the drone that has spoken: %+v", next)
	}
}

// The time that a request waits is also that for looking for room.
func TestRefusedPastTheRequestsDeadlineEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	one, _ := twoPeers(t, w)
	first := spawnOn(t, w, one, "doc")
	_, err := w.db.Exec(t.Context(), `update outbox set created_at = created_at - $1::interval where backend_id = $2`, testkit.Patience, first.BackendID)
	must(t, err)
	if refused := one.tryReport(refusal(first.BackendID)); refused != nil {
		t.Fatal(refused)
	}
	if end := awaitEnd(t, w, first.BackendID); end.Reason != messages.ReasonStartFailed || !strings.Contains(end.Message, "within the time of the request") {
		t.Errorf("it ended as %+v", end.State)
	}
}

// I3: the worker that wrote it died before it told anybody; another one does.
func TestI3PlacementThatWasCommittedOnlyIsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	one, other := twoPeers(t, w)
	first := spawnOn(t, w, one, "doc")
	id := first.BackendID
	dying, err := store.Open(t.Context(), store.Config{DSN: w.dsn, Terms: lease.Terms{TTL: longTTL}})
	must(t, err)
	defer dying.Close()
	rows, foreign, err := dying.Transition(t.Context(), &store.Holder{Drone: one.name, Session: one.session}, []store.Change{{
		BackendID: id, Event: lifecycle.Refused{State: refusal(id).State},
	}})
	if err != nil || len(foreign) > 0 || len(rows) != 1 {
		t.Fatalf("to publish %v, foreign %v, %v", rows, foreign, err)
	}
	_, err = w.db.Exec(t.Context(), `update outbox set due_at = now()`)
	must(t, err)
	other.awaitAction(id, messages.SpawnAgainID(id, 1))
	if refused := one.tryReport(refusal(id)); refused == nil || !slices.Equal(refused.Backends, []string{id}) {
		t.Errorf("refused again, for nobody answered the first time: %v", refused)
	}
	other.report(id, messages.Ready)
	wantNumbers(t, w, id, messages.Scheduled, messages.Ready)
	if n := len(one.seen(id)); n != 1 {
		t.Errorf("the full drone was told %d times", n)
	}
}

// A drone's agent is killed and comes back: its backends are the new session's, with no
// event and no wait, while sweeps go on and whatever was asked meanwhile. What it never
// took goes to another drone.
func TestI1DroneThatComesBackGoesOnWithItsBackends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, longTTL)
	p, other := twoPeers(t, w)
	runs := spawnOn(t, w, p, "runs")
	p.report(runs.BackendID, messages.Loading, messages.Ready)
	ends := spawnOn(t, w, p, "ends")
	p.report(ends.BackendID, messages.Loading, messages.Ready)
	p.heartbeat(runs.BackendID, ends.BackendID)
	p.stopConsuming()
	untaken := spawnOn(t, w, p, "untaken")
	if _, refused := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: ends.BackendID}); refused != nil {
		t.Fatal(refused)
	}
	// A gap in which whoever does not renew for longer than a third of a lease is given
	// no backends, but keeps those it has.
	elapse(t, w, p.name, longTTL*2/5)
	for range 4 {
		if next := w.connect(spawnKey("gap" + nats.NewInbox())); next.Drone != other.name {
			t.Errorf("a silent drone is given %+v", next)
		}
	}
	if info := w.status(runs.BackendID); info.Status != messages.Ready {
		t.Errorf("in the gap it is %+v", info)
	}
	before := w.status(runs.BackendID)

	p.session = "s-again"
	both := []string{runs.BackendID, ends.BackendID}
	if r := p.register(p.session, both...); len(r.Lost) > 0 || len(r.Sealed) > 0 {
		t.Errorf("registered with %+v", r)
	}
	p.consume()
	if after := w.status(runs.BackendID); !reflect.DeepEqual(after, before) {
		t.Errorf("it is %+v after %+v", after, before)
	}
	wantNumbers(t, w, runs.BackendID, messages.Scheduled, messages.Loading, messages.Ready)
	if route, ok := w.route(runs.Token); !ok || route.Address == "" {
		t.Errorf("its token leads to %+v", route)
	}
	if joined := w.connect(messages.ConnectRequest{Key: &before.Key}); joined.BackendID != runs.BackendID || joined.Spawned {
		t.Errorf("joined %+v", joined)
	}
	p.awaitAction(ends.BackendID, messages.TerminateID(ends.BackendID, false))
	if r := p.heartbeat(both...); len(r.Renewed) != 2 {
		t.Errorf("the new session's heartbeat gives %+v", r)
	}
	p.report(ends.BackendID, messages.Terminating, messages.Terminated)
	p.report(runs.BackendID, messages.Terminated)

	spawn := other.awaitAction(untaken.BackendID, messages.SpawnAgainID(untaken.BackendID, 1))
	if spawn.Spawn.Session != other.session {
		t.Errorf("the untaken one's spawn is %+v", spawn.Spawn)
	}
	other.report(untaken.BackendID, messages.Ready)
	// The agent finds the spawn for its earlier self, refuses it, and is told to leave it alone.
	p.awaitAction(untaken.BackendID, messages.SpawnID(untaken.BackendID))
	if refused := p.tryReport(stateOf(untaken.BackendID, messages.Terminated)); refused == nil || !slices.Equal(refused.Backends, []string{untaken.BackendID}) {
		t.Errorf("the spawn of an earlier session: %v", refused)
	}
	if info := w.status(untaken.BackendID); info.Drone != other.name || info.Status != messages.Ready {
		t.Errorf("the untaken one is %+v", info)
	}
}

// How far a start is, is seen by who asks; watchers and the stream are left alone.
func TestProgressOfLoadingIsShownByStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	id := w.connect(spawnKey("doc")).BackendID
	events := subscribe(t, w, messages.BackendEventSubject(id))
	for _, text := range []string{"pulling", "12 of 80 MB", "40 of 80 MB"} {
		report := messages.Report{BackendID: id, State: messages.State{Status: messages.Loading, Message: text}}
		if refused := p.tryReport(report); refused != nil {
			t.Fatal(refused)
		}
		if info := w.status(id); info.Message != text || info.Status != messages.Loading {
			t.Errorf("it is %+v, want %q", info.State, text)
		}
	}
	p.report(id, messages.Ready)
	wantNumbers(t, w, id, messages.Scheduled, messages.Loading, messages.Ready)
	must(t, w.nc.FlushTimeout(testkit.Patience))
	loading := map[string]bool{} // by what it says: copies say the same
	for pending, _, _ := events.Pending(); pending > 0; pending-- {
		msg, err := events.NextMsg(testkit.Patience)
		must(t, err)
		if event := as[messages.StateEvent](t, msg.Data); event.Status == messages.Loading {
			loading[event.Message] = true
		}
	}
	if len(loading) != 1 {
		t.Errorf("events of one state say %v", loading)
	}
}
