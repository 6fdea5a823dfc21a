package worker_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// A draining drone is given nothing more, keeps what it has, and says so once.
func TestDrainedDronesAreGivenNoBackends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	kept := w.connect(spawnKey("doc")).BackendID
	p.report(kept, messages.Ready)

	for range 2 { // again is no error, and no event
		if left := drain(t, w, messages.SubjectDrain); left != 1 {
			t.Errorf("%d backends are left, want 1", left)
		}
	}
	if _, refusal := w.awaitConnect(w.sendConnect(spawnKey("other"), testkit.Patience)); refusal == nil || refusal.Kind != messages.NoDroneAvailable {
		t.Errorf("a connect with the only drone draining: %v", refusal)
	}
	if r := p.heartbeat(kept); !r.Draining || len(r.Renewed) != 1 {
		t.Errorf("a draining drone's heartbeat gives %+v", r)
	}
	if joined := w.connect(spawnKey("doc")); joined.BackendID != kept || joined.Spawned {
		t.Errorf("a join of what it still runs: %+v", joined)
	}
	p.report(kept, messages.Terminated)
	if left := drain(t, w, messages.SubjectDrain); left != 0 {
		t.Errorf("%d backends are left of none", left)
	}

	for range 2 {
		drain(t, w, messages.SubjectUndrain)
	}
	if r := p.heartbeat(); r.Draining {
		t.Error("it still drains")
	}
	w.connect(spawnKey("other"))
	awaitDroneEvents(t, w, "dr-a", messages.TypeDroneRegistered, messages.TypeDroneDraining, messages.TypeDroneUndrained)
}

func drain(t *testing.T, w *world, subject string) (left int) {
	t.Helper()
	data, refusal := w.ask(subject, messages.DrainRequest{Drone: "dr-a"})
	if refusal != nil {
		t.Fatalf("%s: %v", subject, refusal)
	}
	return as[messages.DrainResponse](t, data).Backends
}

func subscribe(t *testing.T, w *world, subject string) *nats.Subscription {
	t.Helper()
	sub, err := w.nc.SubscribeSync(subject)
	must(t, err)
	must(t, w.nc.FlushTimeout(testkit.Patience))
	return sub
}

// Tokens are gone, and every proxy has been told, once the reply is there.
func TestRevokedTokensLeadNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	as1 := func(user string) messages.ConnectResponse {
		req := spawnKey("doc")
		req.User = user
		return w.connect(req)
	}
	ada1, ada2, bob, nobody := as1("ada"), as1("ada"), as1("bob"), as1("")
	id := ada1.BackendID
	p.report(id, messages.Ready)
	events := subscribe(t, w, messages.TokenEventSubject(id))
	revoke := func(req messages.RevokeRequest, want int, routes ...bool) {
		t.Helper()
		req.BackendID = id
		data, refusal := w.ask(messages.SubjectRevoke, req)
		if refusal != nil || as[messages.RevokeResponse](t, data).Revoked != want {
			t.Errorf("revoke: %s, %v, want %d revoked", data, refusal, want)
		}
		for i, c := range []messages.ConnectResponse{ada1, ada2, bob, nobody} {
			if _, ok := w.route(c.Token); ok != routes[i] {
				t.Errorf("token %d leads somewhere: %v", i, ok)
			}
		}
	}
	revoke(messages.RevokeRequest{User: new("carol")}, 0, true, true, true, true)
	revoke(messages.RevokeRequest{User: new("bob"), Token: ada1.Token}, 0, true, true, true, true)
	revoke(messages.RevokeRequest{Token: ada1.Token}, 1, false, true, true, true)
	revoke(messages.RevokeRequest{User: new("ada")}, 1, false, false, true, true)
	revoke(messages.RevokeRequest{User: new("")}, 1, false, false, true, false)

	var got []messages.TokenEvent
	for seen := map[string]bool{}; len(got) < 5; {
		msg, err := events.NextMsg(testkit.Patience)
		must(t, err)
		if id := msg.Header.Get(messages.HeaderMessageID); seen[id] {
			continue // a copy, as from a worker that was slow to take it off the record
		} else {
			seen[id] = true
		}
		e, err := messages.Decode[messages.TokenEvent](msg.Data)
		if err != nil || e.BackendID != id || e.ID != msg.Header.Get(messages.HeaderMessageID) || e.Time.IsZero() || strings.Contains(string(msg.Data), ada1.Token) {
			t.Errorf("an event is %s: %v", msg.Data, err)
		}
		got = append(got, e)
	}
	// Also where there was nothing to revoke: something may be open with a token that has run out.
	if *got[0].User != "carol" || *got[1].User != "bob" || got[1].TokenSHA256 != hexHash(ada1.Token) ||
		got[2].User != nil || got[2].TokenSHA256 != hexHash(ada1.Token) || *got[3].User != "ada" || *got[4].User != "" {
		t.Errorf("the events are %+v", got)
	}
	testkit.Eventually(t, "an empty outbox", func() bool { return w.count("outbox") == 0 })
}

func hexHash(token string) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, b := range lease.HashToken(token) {
		s.WriteByte(digits[b>>4])
		s.WriteByte(digits[b&15])
	}
	return s.String()
}
