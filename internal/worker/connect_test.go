package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

func TestI1I4OneKey200ConnectsTwoWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")

	const askers = 200
	replies := make([]<-chan *nats.Msg, askers)
	for i := range replies {
		replies[i] = w.sendConnect(spawnKey("doc"), testkit.Patience)
	}
	backend, spawned := "", 0
	tokens := make(map[string]bool)
	for _, reply := range replies {
		resp, refusal := w.awaitConnect(reply)
		if refusal != nil {
			t.Fatalf("a connect was refused: %v", refusal)
		}
		if backend == "" {
			backend = resp.BackendID
		}
		if resp.BackendID != backend {
			t.Errorf("two backends for one key: %s and %s", backend, resp.BackendID)
		}
		if resp.Spawned {
			spawned++
			if resp.Drone != "dr-a" {
				t.Errorf("spawned on %q", resp.Drone)
			}
		}
		if want := "https://" + cluster + "/" + resp.Token + "/"; resp.URL != want || resp.SecretToken == "" {
			t.Errorf("url %q, want %q; secret %q", resp.URL, want, resp.SecretToken)
		}
		tokens[resp.Token] = true
	}
	if spawned != 1 || len(tokens) != askers {
		t.Errorf("%d spawns and %d tokens, want 1 and %d", spawned, len(tokens), askers)
	}
	for token := range tokens {
		if r, ok := w.route(token); !ok || r.BackendID != backend || r.ValidForMS <= 0 {
			t.Fatalf("a token leads to %+v, %t", r, ok)
		}
	}
	p.awaitAction(backend, messages.SpawnID(backend))
	if n := w.count("lease"); n != 1 {
		t.Errorf("%d leases", n)
	}
	if n := w.count("outbox"); n != 1 {
		t.Errorf("%d rows are on record, want one spawn", n)
	}
	if n := w.count("backend"); n != 1 {
		t.Errorf("%d backends", n)
	}
	if n := w.count("token"); n != askers {
		t.Errorf("%d tokens", n)
	}
	p.marker()
	if got := p.seen(backend); len(got) != 1 || got[0].Type != messages.TypeSpawn || got[0].Spawn.FencingToken < 1 || got[0].Spawn.Session != p.session {
		t.Errorf("the drone got %+v, want one spawn", got)
	}
	wantNumbers(t, w, backend, messages.Scheduled)
}

func TestI1HundredKeysRacedForByTwoWorkersHaveOneBackendEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	startPeer(t, w, "dr-a")
	startPeer(t, w, "dr-b")
	names := make([]string, 100)
	var replies []<-chan *nats.Msg
	for i := range names {
		names[i] = "doc-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
	}
	for range 3 {
		for i := range names {
			replies = append(replies, w.sendConnect(spawnKey(names[i]), testkit.Patience))
		}
	}
	backends, spawned := make(map[string]string), 0
	for i, reply := range replies {
		resp, refusal := w.awaitConnect(reply)
		if refusal != nil {
			t.Fatalf("a connect was refused: %v", refusal)
		}
		name := names[i%len(names)]
		if had := backends[name]; had != "" && had != resp.BackendID {
			t.Errorf("%s has the backends %s and %s", name, had, resp.BackendID)
		}
		backends[name] = resp.BackendID
		if resp.Spawned {
			spawned++
		}
	}
	if n := w.count("backend"); spawned != len(names) || n != len(names) {
		t.Errorf("%d spawned, %d backends, want %d", spawned, n, len(names))
	}
}

func TestI3LeavingBackendIsWaitedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("doc"))
	before := p.awaitAction(first.BackendID, messages.SpawnID(first.BackendID))
	p.report(first.BackendID, messages.Ready, messages.Terminating)

	replies := make([]<-chan *nats.Msg, 20)
	for i := range replies {
		replies[i] = w.sendConnect(spawnKey("doc"), testkit.Patience)
	}
	// One that does not wait as long is refused, and the others go on waiting.
	w.refusedWhileLeaving("doc")
	for _, reply := range replies {
		select {
		case msg := <-reply:
			t.Fatalf("answered before the backend had left: %s", msg.Data)
		default:
		}
	}
	p.report(first.BackendID, messages.Terminated)

	spawned, second := 0, ""
	for _, reply := range replies {
		resp, refusal := w.awaitConnect(reply)
		if refusal != nil {
			t.Fatalf("refused after waiting: %v", refusal)
		}
		if resp.Spawned {
			spawned++
		}
		if second == "" {
			second = resp.BackendID
		}
		if resp.BackendID == first.BackendID || resp.BackendID != second {
			t.Errorf("got backend %s after %s, others %s", resp.BackendID, first.BackendID, second)
		}
	}
	if spawned != 1 {
		t.Errorf("%d of those who waited spawned, want 1", spawned)
	}
	after := p.awaitAction(second, messages.SpawnID(second))
	if after.Spawn.FencingToken <= before.Spawn.FencingToken {
		t.Errorf("I2: fencing token %d after %d", after.Spawn.FencingToken, before.Spawn.FencingToken)
	}
}

func TestI2ExpiredLeaseIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Here nobody but who wants the key finds out that its lease has run out.
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.SweepEvery = time.Hour }})
	p := startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("doc"))
	untaken := w.connect(spawnKey("untaken")).BackendID
	before := p.awaitAction(first.BackendID, messages.SpawnID(first.BackendID))
	p.report(first.BackendID, messages.Ready)
	if r := p.heartbeat(first.BackendID); len(r.Renewed) != 1 || len(r.Lost) != 0 {
		t.Fatalf("a live lease was not renewed: %+v", r)
	}

	// It falls silent, and another drone is there.
	other := startPeer(t, w, "dr-b")
	elapse(t, w, p.name, time.Hour)
	var second messages.ConnectResponse
	testkit.Eventually(t, "the takeover of the expired lease", func() bool {
		other.heartbeat()
		second = w.connect(spawnKey("doc"))
		return second.Spawned
	})
	if second.BackendID == first.BackendID {
		t.Fatal("the takeover gave the old backend")
	}
	after := other.awaitAction(second.BackendID, messages.SpawnID(second.BackendID))
	if after.Spawn.FencingToken <= before.Spawn.FencingToken {
		t.Errorf("fencing token %d after %d", after.Spawn.FencingToken, before.Spawn.FencingToken)
	}
	if end := awaitEnd(t, w, first.BackendID); end.Reason != messages.ReasonLost || end.LastStatus != messages.Ready {
		t.Errorf("the old backend ended as %+v", end)
	}
	// Its drone has to register again, and is told.
	if _, refusal := w.ask(messages.HeartbeatSubject(p.name), messages.HeartbeatRequest{Session: p.session, DroneTimeMS: 1, Ready: true}); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("the heartbeat of a session that is over: %v", refusal)
	}
	if _, ok := w.route(first.Token); ok {
		t.Error("a token of the lost backend leads somewhere")
	}

	testkit.Eventually(t, "the takeover from a backend that never started", func() bool {
		other.heartbeat()
		return w.connect(spawnKey("untaken")).Spawned
	})
	// I5: published again, it would take an ended backend back to scheduled.
	if n := w.count("outbox where backend_id = $1 and kind = 'spawn'", untaken); n != 0 {
		t.Error("the spawn of a backend that was given up is still on record")
	}
	if r := p.register("s-again", first.BackendID); !slices.Equal(r.Lost, []string{first.BackendID}) {
		t.Errorf("it registers with %+v", r)
	}
}
