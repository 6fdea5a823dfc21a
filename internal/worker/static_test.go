package worker_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// testKey is the one that workers of tests have.
var testKey = lease.NewKey()

// keysOf are the keys of a file of these lines.
func keysOf(t testing.TB, lines ...string) *lease.Keys {
	t.Helper()
	keys := new(lease.Keys)
	must(t, keys.Replace([]byte(strings.Join(lines, "\n"))))
	return keys
}

func withKeys(keys *lease.Keys) options {
	return options{change: func(c *worker.Config) { c.Keys = keys }}
}

// static asks for a key, to be spawned with a static token.
func static(name string) messages.ConnectRequest {
	req := spawnKey(name)
	req.SpawnConfig.UseStaticToken = true
	return req
}

// dump is all that a reader of the database gets.
func (w *world) dump() []byte {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "dump")
	pgtest.Program(w.t, w.dsn, "pg_dump", "-f", file)
	data, err := os.ReadFile(file)
	must(w.t, err)
	return data
}

// secret wants a dump to hold neither tokens nor secrets: whole or in part, as they are.
func (w *world) secret(responses ...messages.ConnectResponse) {
	w.t.Helper()
	dump := w.dump()
	for _, resp := range responses {
		if !bytes.Contains(dump, []byte(resp.BackendID)) {
			w.t.Errorf("the dump does not know %s", resp.BackendID)
		}
		for _, text := range []string{strings.TrimPrefix(resp.Token, messages.StaticTokenPrefix), resp.SecretToken} {
			if text != "" && bytes.Contains(dump, []byte(text[:len(text)/2])) {
				w.t.Errorf("the dump of the database holds %q", text)
			}
		}
	}
}

// The demand: who reads the database, or a dump of it, cannot visit: it holds no static token, neither in a backend's row nor in a spawn that waits for its
// drone. All workers give who joins the same one, their proxies' questions are answered, and the drone is told it, whoever
// tells it: so also after a restore, which brings back no more than a dump.
func TestNoStaticTokenIsInTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	p.stopConsuming()
	spawned, other := w.connect(static("k")), w.connect(spawnKey("other"))
	if !strings.HasPrefix(spawned.Token, messages.StaticTokenPrefix) || spawned.SecretToken != "" {
		t.Fatalf("the static token is %+v", spawned)
	}
	w.secret(spawned, other)
	if n := w.count("outbox where kind = 'spawn'"); n != 2 {
		t.Fatalf("%d spawns wait for their drone", n)
	}

	// Another worker, and a bus that knows of nothing: what there is is in the database.
	stop()
	js, err := jetstream.New(w.nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), messages.StreamActions)
	must(t, err)
	must(t, stream.Purge(t.Context()))
	startWorker(t, w, "wo-b", options{})
	p.consume()
	action := p.awaitAction(spawned.BackendID, spawned.BackendID+".spawn")
	if action.Spawn.StaticToken != spawned.Token {
		t.Errorf("the drone is told %q, want %q", action.Spawn.StaticToken, spawned.Token)
	}
	if joined := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "k"}}); joined.Token != spawned.Token || joined.SecretToken != "" {
		t.Errorf("who joins is given %q, want %q", joined.Token, spawned.Token)
	}
	if route, ok := w.route(spawned.Token); !ok || route.BackendID != spawned.BackendID || route.ValidForMS != 0 || route.SecretToken != "" {
		t.Errorf("it leads to %+v, found: %v", route, ok)
	}
	p.report(spawned.BackendID, messages.Terminated)
	if route, ok := w.route(spawned.Token); ok {
		t.Errorf("when its backend has ended it leads to %+v", route)
	}
	w.secret(spawned, other)
}

// The demand: keys can be replaced one after the other, and a worker without the right one says what is missing, gives nobody another token, and stores none as it is.
func TestStaticTokensOutliveTheirKeysPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next := lease.NewKey()
	keys := keysOf(t, testKey)
	stop := startWorker(t, w, "wo-a", withKeys(keys))
	startPeer(t, w, "dr-a")
	before := w.connect(static("before"))
	must(t, keys.Replace([]byte(next+"\n"+testKey)))
	after := w.connect(static("after"))
	for key, want := range map[string]messages.ConnectResponse{"before": before, "after": after} {
		if joined := w.connect(static(key)); joined.Token != want.Token {
			t.Errorf("who joins is given %q, want %q", joined.Token, want.Token)
		}
	}
	stop()

	join := func(key string) (messages.ConnectResponse, *messages.Error) {
		return w.awaitConnect(w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: key}}, testkit.Patience))
	}
	stop = startWorker(t, w, "wo-b", withKeys(keysOf(t, next)))
	if joined, refusal := join("after"); refusal != nil || joined.Token != after.Token {
		t.Errorf("by its own key it is %q, %v", joined.Token, refusal)
	}
	if _, refusal := join("before"); refusal == nil || refusal.Kind != messages.Unavailable || !strings.Contains(refusal.Message, keysOf(t, testKey).IDs()[0]) {
		t.Errorf("without its key who joins is told %v", refusal)
	}
	if _, ok := w.route(before.Token); !ok {
		t.Error("a link does not lead on without the key")
	}
	stop()

	startWorker(t, w, "wo-c", withKeys(nil))
	contents := w.contents()
	if why := w.refused(messages.SubjectConnect, static("new")); !strings.HasPrefix(why, "BadRequest: spawn_config.use_static_token: ") || !strings.Contains(why, "--token-key-file") {
		t.Errorf("without a key it is refused with %q", why)
	}
	if now := w.contents(); now != contents {
		t.Errorf("what was refused has changed %s to %s", contents, now)
	}
	if resp := w.connect(spawnKey("ordinary")); resp.SecretToken == "" {
		t.Errorf("an ordinary connect gets %+v", resp)
	}
}

// The demand: a backend that an earlier build has started keeps its static token, which is sealed as soon as all workers have the key: not before, for the others
// would know it no more.
func TestStaticTokensOfAnEarlierBuildAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	old := w.connect(static("k"))
	stop()
	// As it was stored.
	_, err := w.db.Exec(t.Context(), "update backend set static_token = $1, sealed_token = ''", old.Token)
	must(t, err)
	_, err = w.db.Exec(t.Context(), "delete from token")
	must(t, err)
	works := func(when string) {
		t.Helper()
		if joined := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "k"}}); joined.Token != old.Token {
			t.Errorf("%s, who joins is given %q, want %q", when, joined.Token, old.Token)
		}
		if route, ok := w.route(old.Token); !ok || route.BackendID != old.BackendID || route.ValidForMS != 0 {
			t.Errorf("%s, it leads to %+v, found: %v", when, route, ok)
		}
		if why := w.refused(messages.SubjectRevoke, messages.RevokeRequest{BackendID: old.BackendID, User: new("")}); !strings.Contains(why, "terminate") {
			t.Errorf("%s, revocation is refused with %q", when, why)
		}
	}
	without := startWorker(t, w, "wo-without", withKeys(nil))
	works("without a key")
	var said logs
	startWorker(t, w, "wo-b", options{change: func(c *worker.Config) {
		c.RetainEvery = 10 * time.Millisecond
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
	}})
	testkit.Eventually(t, "it is said who lacks the key", func() bool { return len(said.with("other=wo-without")) > 0 })
	if n := w.count("backend where static_token = $1", old.Token); n != 1 {
		t.Fatal("it is sealed while a worker does not have the key")
	}
	without()
	testkit.Eventually(t, "it is sealed", func() bool { return w.count("backend where static_token = ''") == 1 })
	works("sealed")
	w.secret(old)
}
