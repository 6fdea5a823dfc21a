package lease_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const cluster = "c.test"

type rig struct {
	*store.Store
	dsn string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dsn: pgtest.Database(t)}
	s, err := store.Open(t.Context(), store.Config{DSN: r.dsn, Terms: lease.Terms{TTL: time.Hour}}) // the drone is to live however long it takes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r.Store = s
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Register(t.Context(), "dr-a", &messages.RegisterRequest{Session: "s-1", MachineID: "m", BootID: "b", Cluster: cluster}); err != nil {
		t.Fatal(err)
	}
	r.heartbeat(t.Context(), t)
	return r
}

func (r *rig) heartbeat(ctx context.Context, t rapid.TB) {
	t.Helper()
	heard, err := r.Heartbeat(ctx, "dr-a", &messages.HeartbeatRequest{Session: "s-1", Ready: true})
	if err != nil || !heard.Known {
		t.Fatalf("heartbeat: known %v, %v", heard.Known, err)
	}
}

func (r *rig) connector(t testing.TB) *lease.Connector {
	t.Helper()
	return lease.NewConnector(lease.Config{Store: r.Store, Keys: keysOf(t, lease.NewKey()), Log: testkit.Logger(t)})
}

// ask is a request for a key with a tag; change edits its spawn config.
func ask(name, tag string, change func(*messages.SpawnConfig)) lease.Request {
	cfg := &messages.SpawnConfig{Cluster: cluster, Executable: json.RawMessage(`{}`)}
	if change != nil {
		change(cfg)
	}
	return lease.Request{ConnectRequest: messages.ConnectRequest{
		Key: &messages.Key{Name: name, Tag: tag}, SpawnConfig: cfg,
	}}
}

func withID(id string) func(*messages.SpawnConfig) {
	return func(c *messages.SpawnConfig) { c.ID = id }
}

func joinOnly(name string) lease.Request {
	r := ask(name, "", nil)
	r.SpawnConfig = nil
	return r
}

// brief says what an outcome is.
func brief(o lease.Outcome) string {
	switch {
	case o.Err != nil:
		return string(messages.KindOf(o.Err))
	case o.Leaving != nil:
		return "leaving"
	case o.Response.Spawned:
		return "spawned"
	}
	return "joined"
}

func TestI4OneBatchOfEverythingFailsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	reqs := map[string][]lease.Request{
		"spawned":                {ask("alone", "", nil)},
		"spawned joined joined":  {ask("same", "", nil), ask("same", "", nil), joinOnly("same")},
		"joined spawned":         {joinOnly("later"), ask("later", "", nil)},
		"spawned KeyHeld":        {ask("tags", "a", nil), ask("tags", "b", nil)},
		"spawned BackendExists":  {ask("id-1", "", withID("twice")), ask("id-2", "", withID("twice"))},
		"KeyUnheldNoSpawnConfig": {joinOnly("nobody")},
		"NoClusterProvided":      {ask("no-cluster", "", func(c *messages.SpawnConfig) { c.Cluster = "" })},
		"NoDroneAvailable":       {ask("no-drone", "", func(c *messages.SpawnConfig) { c.Pool = "none" })},
		"spawned joined":         {ask("static", "", func(c *messages.SpawnConfig) { c.UseStaticToken = true }), ask("static", "", nil)},
	}
	var all []lease.Request
	var wants []string
	for want, group := range reqs {
		all = append(all, group...)
		wants = append(wants, strings.Fields(want)...)
	}
	outcomes, rows := r.connector(t).Connect(t.Context(), all)
	spawned, static := 0, map[string]bool{}
	for i, o := range outcomes {
		if got := brief(o); got != wants[i] {
			t.Errorf("key %q: %s (%v), want %s", all[i].Key.Name, got, o.Err, wants[i])
			continue
		}
		if wants[i] == "spawned" {
			spawned++
		}
		if all[i].Key.Name == "static" {
			static[o.Response.Token] = true
			if o.Response.SecretToken != "" || !strings.HasPrefix(o.Response.Token, messages.StaticTokenPrefix) {
				t.Errorf("static: %+v", o.Response)
			}
		}
	}
	if len(static) != 1 {
		t.Errorf("%d static tokens for one backend", len(static))
	}
	if len(rows) != spawned {
		t.Errorf("%d rows to publish for %d spawns", len(rows), spawned)
	}
}

func TestConnectToALeavingBackendIsToldSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.connector(t)
	first, _ := c.Connect(t.Context(), []lease.Request{ask("k", "", nil)})
	conn, err := pgx.Connect(t.Context(), r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `update backend set status = 60`); err != nil {
		t.Fatal(err)
	}
	again, rows := c.Connect(t.Context(), []lease.Request{ask("k", "", nil)})
	if l := again[0].Leaving; l == nil || l.BackendID != first[0].Response.BackendID || l.ExpiresIn <= 0 || len(rows) != 0 {
		t.Errorf("%+v, rows %v", again[0], rows)
	}
}

// Any batch: one outcome each, and one spawn for each key at most.
func TestI1AnyBatchSpawnsAtMostOnceForAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.connector(t)
	ctx := t.Context()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		r.heartbeat(ctx, t)
		held := make(map[string]string) // backend by key, over two batches
		for range 2 {
			var reqs []lease.Request
			for range rapid.IntRange(1, 12).Draw(t, "requests") {
				key := fmt.Sprintf("k-%d-%d", n, rapid.IntRange(0, 3).Draw(t, "key"))
				req := ask(key, rapid.SampledFrom([]string{"", "", "", "t"}).Draw(t, "tag"), func(c *messages.SpawnConfig) {
					if id := rapid.IntRange(0, 5).Draw(t, "id"); id < 2 {
						c.ID = fmt.Sprintf("b-%d-%d", n, id)
					}
					c.UseStaticToken = rapid.Bool().Draw(t, "static")
					c.Pool = rapid.SampledFrom([]string{"", "", "none"}).Draw(t, "pool")
				})
				if rapid.IntRange(0, 4).Draw(t, "join only") == 0 {
					req.SpawnConfig = nil
				}
				reqs = append(reqs, req)
			}
			outcomes, rows := c.Connect(ctx, reqs)
			spawns := make(map[string]int)
			for i, o := range outcomes {
				set := 0
				for _, is := range []bool{o.Response != nil, o.Leaving != nil, o.Err != nil} {
					if is {
						set++
					}
				}
				if set != 1 {
					t.Fatalf("request %d: %+v", i, o)
				}
				switch kind := messages.KindOf(o.Err); {
				case o.Err != nil && (kind == "" || kind == messages.Internal || kind == messages.FailedToAcquireKey):
					t.Fatalf("request %d: %v", i, o.Err)
				case o.Response != nil:
					key := reqs[i].Key.Name
					if o.Response.Spawned {
						spawns[key]++
						if held[key] != "" && held[key] != o.Response.BackendID {
							t.Fatalf("%s was spawned for a key that %s holds", o.Response.BackendID, held[key])
						}
					}
					if id := held[key]; id != "" && id != o.Response.BackendID {
						t.Fatalf("key %s leads to %s and to %s", key, id, o.Response.BackendID)
					}
					held[key] = o.Response.BackendID
				}
			}
			total := 0
			for key, n := range spawns {
				if total += n; n > 1 {
					t.Fatalf("key %s: %d spawns", key, n)
				}
			}
			published := 0
			for _, row := range rows {
				if row.Kind == outbox.KindSpawn {
					published++
				}
			}
			if published != total {
				t.Fatalf("%d spawn actions for %d spawns", published, total)
			}
		}
	})
}
