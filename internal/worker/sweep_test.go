package worker_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// shortTTL is a lease that tests can wait for and a busy machine can still renew: 20 s, of which a drone waits 1.7 s
// for each answer, and more on a machine that is said to be slower.
var shortTTL = testkit.Patience / 9

// elapse lets time go by for a drone and its backends: all that is known of them happened
// that much earlier.
func elapse(t *testing.T, w *world, drone string, by time.Duration) {
	t.Helper()
	for _, sql := range []string{
		`update session set heard_at = heard_at - $2::interval, due_at = due_at - $2::interval, expires_at = expires_at - $2::interval where drone = $1`,
		pastSQL + ` where drone = $1`,
	} {
		_, err := w.db.Exec(t.Context(), sql, drone, by)
		must(t, err)
	}
}

// past lets time go by for one backend, the end of its lease excepted.
func past(t *testing.T, w *world, backend string, by time.Duration) {
	t.Helper()
	_, err := w.db.Exec(t.Context(), pastSQL+` where id = $1`, backend, by)
	must(t, err)
}

const pastSQL = `
update backend set due_at = due_at - $2::interval, created_at = created_at - $2::interval,
    changed_at = changed_at - $2::interval, asked_at = asked_at - $2::interval,
    lifetime_ends_at = lifetime_ends_at - $2::interval, last_keepalive_at = last_keepalive_at - $2::interval`

// expire ends a sealed key, which is not renewed any more.
func expire(t *testing.T, w *world, backend string) {
	t.Helper()
	_, err := w.db.Exec(t.Context(), `update lease set sealed_until = now() - interval '1 second' where backend_id = $1`, backend)
	must(t, err)
	past(t, w, backend, longTTL)
}

// eager is a worker that sweeps all the time.
func eager(ttl time.Duration) options {
	return options{ttl: ttl, change: func(c *worker.Config) { c.SweepEvery = 100 * time.Millisecond }}
}

// twoWorkers sweep at once.
func twoWorkers(t *testing.T, w *world, ttl time.Duration) {
	t.Helper()
	startWorker(t, w, "wo-a", eager(ttl))
	startWorker(t, w, "wo-b", eager(ttl))
}

func limited(name string, lifetime, idle int64, executable json.RawMessage) messages.ConnectRequest {
	req := spawnKey(name)
	if lifetime > 0 {
		req.SpawnConfig.LifetimeLimitSeconds = &lifetime
	}
	if idle > 0 {
		req.SpawnConfig.MaxIdleSeconds = &idle
	}
	if executable != nil {
		req.SpawnConfig.Executable = executable
	}
	return req
}

// droneEvents are the types of what was published about a drone, in order.
func droneEvents(t *testing.T, w *world, drone string) (types []string) {
	t.Helper()
	for _, msg := range events(t, w, messages.DroneEventSubject(drone)) {
		event := as[messages.DroneEvent](t, msg.Data)
		if event.Drone != drone || event.Session == "" || event.Cluster != cluster || event.Time.IsZero() || msg.Header.Get(messages.HeaderMessageID) != event.ID {
			t.Errorf("an event is %s", msg.Data)
		}
		types = append(types, event.Type)
	}
	return types
}

func awaitDroneEvents(t *testing.T, w *world, drone string, want ...string) {
	t.Helper()
	var got []string
	testkit.Eventually(t, "the last event about the drone", func() bool {
		got = droneEvents(t, w, drone)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("the events about %s are %v, want %v", drone, got, want)
	}
}

func TestI6LimitsEndBackendsOnARealDrone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, 0)
	d := startDrone(t, w, "dr-a", w.url)
	old := w.connect(limited("old", 1, 0, fake.Script{}.Executable())).BackendID
	idle := w.connect(limited("idle", 3600, 1, fake.Script{}.Executable())).BackendID
	// Asked to end before it runs, it would not have to be killed.
	deaf := w.connect(limited("deaf", 3600, 0, fake.Script{IgnoreTerm: true}.Executable())).BackendID
	awaitStatus(t, w, deaf, messages.Ready)
	past(t, w, deaf, 2*time.Hour)
	kept := w.connect(limited("kept", 3600, 3600, fake.Script{}.Executable())).BackendID
	for id, kind := range map[string]messages.TerminationKind{old: messages.Soft, idle: messages.Soft, deaf: messages.Hard} {
		if end := awaitEnd(t, w, id); end.Reason != messages.ReasonSwept || end.Kind != kind {
			t.Errorf("%s ended as %+v", id, end.State)
		}
	}
	if live := d.rt.Live(); len(live) != 1 || live[0].BackendID() != kept {
		t.Errorf("%d run", len(live))
	}
	testkit.Eventually(t, "nothing on record of what has ended", func() bool {
		return w.count("outbox where backend_id <> $1", kept) == 0
	})
}

// A drone that renews and reports nothing: asked softly once, hard once, and then its lease ends.
func TestI6BackendThatDoesNotGoIsAskedOnceSoftlyOnceHardAndEndsWithItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, longTTL)
	p := startPeer(t, w, "dr-a")
	first := w.connect(limited("doc", 3600, 0, nil))
	id := first.BackendID
	p.report(id, messages.Ready)
	past(t, w, id, 2*time.Hour)
	p.awaitAction(id, messages.TerminateID(id, false))
	past(t, w, id, time.Hour) // more than its grace
	p.awaitAction(id, messages.TerminateID(id, true))
	past(t, w, id, time.Hour)
	testkit.Eventually(t, "the lease is refused", func() bool { return len(p.heartbeat(id).Lost) > 0 })
	if info := w.status(id); info.Status == messages.Terminated {
		t.Error("I1: it ended before its lease")
	}
	expire(t, w, id)
	if end := awaitEnd(t, w, id); end.Reason != messages.ReasonLost || end.LastStatus != messages.Ready {
		t.Errorf("it ended as %+v", end.State)
	}
	if _, ok := w.route(first.Token); ok {
		t.Error("its token leads somewhere")
	}
	p.heartbeat()
	p.marker()
	got := p.seen(id)
	// The lost one's termination has the id of the hard one before, and may be told from it by its reason only.
	if len(got) < 3 || got[1].ID != messages.TerminateID(id, false) || got[1].Terminate.Reason != messages.ReasonSwept ||
		got[2].ID != messages.TerminateID(id, true) || got[2].Terminate.Reason != messages.ReasonSwept {
		t.Errorf("the drone was told %+v", got)
	}
	for _, a := range got[3:] {
		if a.Terminate == nil || !a.Terminate.Hard {
			t.Errorf("the drone was told again: %+v", a)
		}
	}
	if next := w.connect(spawnKey("doc")); !next.Spawned {
		t.Error("the key is not free")
	}
}

func TestI6StartThatNobodyEndsIsEndedByTheWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := eager(longTTL)
	sweepsEagerly := o.change
	o.change = func(c *worker.Config) { sweepsEagerly(c); c.StartWithin = 2 * time.Hour }
	startWorker(t, w, "wo-a", o)
	p := startPeer(t, w, "dr-a")
	inTime := w.connect(spawnKey("in time")).BackendID
	p.report(inTime, messages.Loading)
	past(t, w, inTime, 110*time.Minute)
	testkit.Eventually(t, "a sweep lets it start", func() bool {
		return w.count("backend where id = $1 and asked = 0 and due_at > now()", inTime) == 1
	})
	untaken := w.connect(spawnKey("untaken")).BackendID
	slow := w.connect(spawnKey("slow")).BackendID
	p.report(slow, messages.Starting)
	for _, id := range []string{untaken, slow} {
		past(t, w, id, 121*time.Minute)
		p.awaitAction(id, messages.TerminateID(id, true))
		past(t, w, id, time.Hour)
	}
	// Its drone renews for as long as it may.
	testkit.Eventually(t, "the lease is refused", func() bool { return len(p.heartbeat(slow).Lost) > 0 })
	expire(t, w, untaken)
	expire(t, w, slow)
	told := p.awaitAction(slow, messages.TerminateID(slow, true))
	if told.Terminate.Reason != messages.ReasonStartupTimeout {
		t.Errorf("it is to be killed for %s", told.Terminate.Reason)
	}
	for id, last := range map[string]messages.Status{untaken: messages.Scheduled, slow: messages.Starting} {
		end := awaitEnd(t, w, id)
		if end.Reason != messages.ReasonLost || end.LastStatus != last {
			t.Errorf("%s ended as %+v", id, end.State)
		}
		wantOnce(t, w, id)
	}
}

// wantOnce wants a backend's end to be published once, and last.
func wantOnce(t *testing.T, w *world, id string) {
	t.Helper()
	got := numbers(t, w, id)
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("the states of %s on the bus are %v", id, got)
	}
}

func TestI6SilentDroneIsLostOnceAndItsActionsAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twoWorkers(t, w, longTTL)
	p := startPeer(t, w, "dr-a")
	ready := w.connect(spawnKey("ready"))
	p.report(ready.BackendID, messages.Ready)
	p.stopConsuming()
	untaken := w.connect(spawnKey("untaken"))
	_, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: ready.BackendID})
	if refusal != nil {
		t.Fatal(refusal)
	}
	elapse(t, w, "dr-a", longTTL)
	awaitDroneEvents(t, w, "dr-a", messages.TypeDroneRegistered, messages.TypeDroneLost)
	for _, b := range []messages.ConnectResponse{ready, untaken} {
		if end := awaitEnd(t, w, b.BackendID); end.Reason != messages.ReasonLost {
			t.Errorf("%s ended as %+v", b.BackendID, end.State)
		}
		wantOnce(t, w, b.BackendID)
		if _, ok := w.route(b.Token); ok {
			t.Error("a lost backend's token leads somewhere")
		}
	}
	testkit.Eventually(t, "nothing on record for the lost drone", func() bool { return w.count("outbox") == 0 })
	js := natstest.JetStream(t, w.nc)
	stream, err := js.Stream(t.Context(), messages.StreamActions)
	must(t, err)
	testkit.Eventually(t, "nothing in the stream for the lost drone", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
	if _, refusal := w.awaitConnect(w.sendConnect(spawnKey("more"), testkit.Patience)); refusal == nil || refusal.Kind != messages.NoDroneAvailable {
		t.Errorf("a lost drone is given a backend: %v", refusal)
	}

	// Its session is over. It comes back in another one: told what it lost, and usable.
	if _, refusal := w.ask(messages.HeartbeatSubject(p.name), messages.HeartbeatRequest{Session: p.session, DroneTimeMS: 1, Ready: true}); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("the heartbeat of a session that is over: %v", refusal)
	}
	if r := p.register("s-again", ready.BackendID, untaken.BackendID); len(r.Lost) != 2 {
		t.Errorf("the drone that came back is told %+v", r)
	}
	p.heartbeat()
	p.consume()
	next := w.connect(spawnKey("ready"))
	p.awaitAction(next.BackendID, messages.SpawnID(next.BackendID))
	p.report(next.BackendID, messages.Ready)
	awaitDroneEvents(t, w, "dr-a", messages.TypeDroneRegistered, messages.TypeDroneLost, messages.TypeDroneRegistered)
}
