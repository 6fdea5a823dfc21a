package worker_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// refused is what a request is refused with.
func (w *world) refused(subject string, req any) string {
	w.t.Helper()
	data, refusal := w.ask(subject, req)
	if refusal == nil {
		w.t.Fatalf("it was granted: %s", data)
	}
	return refusal.Error()
}

// The demand: the life of a token is the worker's to say, or the connect's.
func TestTokensLiveAsLongAsIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.TokenLifetime = 8 * time.Hour }})
	startPeer(t, w, "dr-a")
	for want, asked := range map[time.Duration]*int64{8 * time.Hour: nil, 48 * time.Hour: new(int64(48 * 3600))} {
		req := spawnKey("doc")
		req.TokenLifetimeSeconds = asked
		route, ok := w.route(w.connect(req).Token)
		valid := time.Duration(route.ValidForMS) * time.Millisecond
		if !ok || valid > want || valid < want-time.Hour {
			t.Errorf("a token lives for %v, want %v", valid, want)
		}
	}
	if why := w.refused(messages.SubjectConnect, []byte(`{"key":{"name":"doc"},"token_lifetime_seconds":0}`)); !strings.Contains(why, "token_lifetime_seconds: must be 1 to") {
		t.Errorf("a life of nothing is refused with %q", why)
	}
}

// The demand: what a static token cannot carry is refused, never dropped: also where the backend is there already. So is its revocation.
func TestStaticTokenCarriesNoUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	req := spawnKey("doc")
	req.SpawnConfig.UseStaticToken = true
	static := w.connect(req)
	before := w.contents()
	for field, join := range map[string]messages.ConnectRequest{
		"user":                   {User: "ada"},
		"auth":                   {Auth: json.RawMessage(`{"a":1}`)},
		"token_lifetime_seconds": {TokenLifetimeSeconds: new(int64(60))},
	} {
		join.Key = &messages.Key{Name: "doc"}
		if why := w.refused(messages.SubjectConnect, join); !strings.HasPrefix(why, "BadRequest: "+field+": ") || !strings.Contains(why, static.BackendID) {
			t.Errorf("%s is refused with %q", field, why)
		}
	}
	if why := w.refused(messages.SubjectRevoke, messages.RevokeRequest{BackendID: static.BackendID, User: new("")}); !strings.HasPrefix(why, "BadRequest: ") || !strings.Contains(why, "terminate") {
		t.Errorf("revocation is refused with %q", why)
	}
	if after := w.contents(); after != before {
		t.Errorf("what was refused has changed %s to %s", before, after)
	}
	if again := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "doc"}}); again.Token != static.Token {
		t.Errorf("who joins is given %q, want %q", again.Token, static.Token)
	}
}

// The demand: a connect whose headers common servers refuse is refused by a limit that says so.
func TestUserDataTooLongForAHeaderIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	before := w.contents()
	req := spawnKey("doc")
	for _, letter := range []string{"x", "ж"} {
		req.Auth = json.RawMessage(`{"a":"` + strings.Repeat(letter, messages.MaxUserData) + `"}`)
		if why := w.refused(messages.SubjectConnect, req); !strings.HasPrefix(why, "BadRequest: auth: ") || !strings.Contains(why, "--max-user-data") {
			t.Errorf("it is refused with %q", why)
		}
	}
	if after := w.contents(); after != before {
		t.Errorf("what was refused has changed %s to %s", before, after)
	}
}
