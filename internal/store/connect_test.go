package store_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// One batch with a key of each kind: each gets what it would get alone, and those that
// are refused leave nothing behind (I4). It is so whether the batch before had the store try to
// join first, or to spawn.
func TestI4BatchOfAllKindsOfKeys(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"joined", "spawned"} {
		t.Run("after one that "+before, func(t *testing.T) {
			t.Parallel()
			batchOfAllKindsOfKeys(t, before == "joined")
		})
	}
}

func batchOfAllKindsOfKeys(t *testing.T, afterJoin bool) {
	t.Helper()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	for _, key := range []string{"expired", "held", "released"} {
		d.spawn(key, "b-"+key, "dr-a")
	}
	d.transition(reported("b-released", messages.Terminated))
	d.expire("b-expired")

	asked := func(key, drone string) lease.Want {
		w := want(key, "n-"+key, drone)
		w.Tokens[0].Tag = ""
		// Two more ask for the same: one of them under another tag, which is not the key's.
		for n, tag := range []string{"", "other"} {
			w.Tokens = append(w.Tokens, lease.Token{Tag: tag, Hash: lease.HashToken(key + string(rune('0'+n))), Auth: []byte("{}"), LifeSeconds: 3600})
		}
		return w
	}
	static := asked("static", "dr-b")
	static.Spawn.StaticToken, static.Spawn.StaticHash = "sealed", lease.HashToken("s.static")
	taken := asked("taken", "dr-b")
	taken.Spawn.BackendID = "b-held"
	nobody := asked("unled", "dr-b")
	nobody.Spawn = nil
	wants := []lease.Want{
		asked("expired", "dr-b"), asked("free", "dr-a"), asked("held", "dr-b"), asked("lost-drone", "dr-c"),
		asked("released", "dr-b"), static, taken, nobody,
	}
	if afterJoin {
		d.connect(lease.Want{Key: messages.Key{Name: "held"}})
	}
	got, rows := d.connect(wants...)

	type outcome struct {
		result   lease.Result
		backend  string
		tookOver string
		tokens   int
	}
	expect := []outcome{
		{lease.Acquired, "n-expired", "b-expired", 2},
		{lease.Acquired, "n-free", "", 2},
		{lease.Held, "b-held", "", 3},
		{result: lease.Unheld},
		{lease.Acquired, "n-released", "", 2},
		{lease.Acquired, "n-static", "", 1},
		{lease.IDTaken, "", "", 0},
		{result: lease.Unheld},
	}
	for i, g := range got {
		o := outcome{result: g.Result, backend: g.BackendID, tookOver: g.TookOver}
		if err := d.raw.QueryRow(t.Context(), `select count(*) from token where backend_id = $1`, g.BackendID).Scan(&o.tokens); err != nil {
			t.Fatal(err)
		}
		if o != expect[i] {
			t.Errorf("%s: %+v, want %+v", wants[i].Key.Name, o, expect[i])
		}
		if g.Result == lease.Acquired && (g.Status != messages.Scheduled || g.Cluster != cluster || g.StaticToken != wants[i].Spawn.StaticToken) {
			t.Errorf("%s: acquired as %+v", wants[i].Key.Name, g)
		}
	}
	var spawned []string
	for _, r := range rows {
		if r.Kind == outbox.KindSpawn {
			spawned = append(spawned, r.BackendID+" on "+r.Drone)
		}
	}
	slices.Sort(spawned)
	if want := []string{"n-expired on dr-b", "n-free on dr-a", "n-released on dr-b", "n-static on dr-b"}; !slices.Equal(spawned, want) {
		t.Errorf("spawned %v, want %v", spawned, want)
	}
	var left int
	if err := d.raw.QueryRow(t.Context(), `
		select (select count(*) from lease where name in ('lost-drone', 'taken', 'unled'))
		     + (select count(*) from backend where name in ('lost-drone', 'taken', 'unled'))`).Scan(&left); err != nil || left != 0 {
		t.Errorf("those that were refused left %d rows behind, %v", left, err)
	}
}
