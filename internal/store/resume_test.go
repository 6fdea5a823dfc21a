package store_test

import (
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// resumable is a want of a key that outlives its backends, with a static token.
func resumable(key, id, drone string) lease.Want {
	w, hour := want(key, id, drone), int64(3600)
	w.Spawn.Kept = &messages.SpawnConfig{ResumeSeconds: &hour, UseStaticToken: true}
	w.Spawn.StaticToken, w.Spawn.StaticHash = "sealed-"+key, lease.HashToken("s."+key)
	return w
}

// dormant has a key be dormant whose one backend was id, and gives its fencing token.
func (d *db) dormant(key, id string) int64 {
	d.t.Helper()
	got, rows := d.connect(resumable(key, id, "dr-a"))
	if got[0].Result != lease.Acquired {
		d.t.Fatalf("%s: %+v", key, got[0])
	}
	d.transition(reported(id, messages.Terminated))
	return rows[0].FencingToken
}

// resume asks for the life after that of a backend.
func (d *db) resume(key, id, after string) lease.Got {
	d.t.Helper()
	w := resumable(key, id, "dr-a")
	w.Spawn.GoesOn, w.Spawn.StaticToken, w.Spawn.StaticHash = after, "another", lease.HashToken("another")
	got, _ := d.connect(w)
	return got[0]
}

// I2, I8: what is kept of a key, and its fencing token, outlives all that retention deletes, for as long as the key is dormant; then both go.
func TestI2I8DormantKeyOutlivesRetentionAndNoLonger(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	first := d.dormant("k", "b-1")
	d.dormant("other", "b-2")
	retain := func() {
		for range 3 {
			if _, err := d.Retain(t.Context(), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
	age := func(dormant string) {
		d.exec(`update lease set released_at = released_at - interval '30 days', dormant_until = now() + $1::interval where name = 'k'`, dormant)
		d.exec(`delete from outbox`) // as published
		d.exec(`update backend set ended_at = ended_at - interval '30 days'`)
	}
	age("1 minute")
	retain()
	if n := one[int](d, `select count(*) from backend`); n != 0 {
		t.Fatalf("%d backends are kept", n)
	}
	routes, err := d.Routes(t.Context(), []string{"s.k"})
	if err != nil || routes[0] == nil || !routes[0].Gone || routes[0].Key.Name != "k" {
		t.Fatalf("its token leads to %+v, %v", routes[0], err)
	}
	if got := d.resume("k", "b-3", "b-1"); got.Result != lease.Acquired || got.Resumes != "b-1" || got.StaticToken != "sealed-k" {
		t.Fatalf("it is resumed as %+v", got)
	}
	if token := one[int64](d, `select fencing_token from lease where name = 'k'`); token <= first {
		t.Errorf("the fencing token is %d after %d", token, first)
	}
	d.transition(reported("b-3", messages.Terminated))

	age("-1 minute") // over, but no day ago
	retain()
	if got := d.resume("k", "b-4", "b-3"); got.Result != lease.Unheld {
		t.Errorf("after its time it is resumed: %+v", got)
	}
	if routes, err := d.Routes(t.Context(), []string{"s.k"}); err != nil || routes[0] != nil {
		t.Errorf("after its time its token leads to %+v, %v", routes[0], err)
	}
	age("-2 days")
	d.exec(`update lease set fencing_token = (select last_value from fencing_token)`) // it was acquired as long ago
	retain()
	if n := one[int](d, `select count(*) from lease where name = 'k'`) + one[int](d, `select count(*) from dormant where name = 'k'`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := one[int](d, `select count(*) from lease natural join dormant where name = 'other'`); n != 1 {
		t.Error("another dormant key is gone, too")
	}
}

// I1: a dormant key is resumed by nothing but what was kept of its last holder, however late somebody comes who has read what was before: not after another life,
// not after it was forgotten, and not by who read it before that.
func TestI1DormantKeyIsResumedByItsLastLifeOnly(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.dormant("k", "b-1")
	if got := d.resume("k", "b-2", "b-1"); got.Result != lease.Acquired {
		t.Fatalf("%+v", got)
	}
	if got := d.resume("k", "b-x", "b-1"); got.Result != lease.Held || got.BackendID != "b-2" {
		t.Errorf("while the next life lasts: %+v", got)
	}
	d.transition(store.Change{BackendID: "b-2", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}}, ends("b-2", messages.Soft, messages.ReasonExternal))
	if got := d.resume("k", "b-x", "b-1"); got.Result != lease.Unheld {
		t.Errorf("after the next life: %+v", got)
	}
	// A spawn waits for the row while it is forgotten.
	tx, err := d.raw.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `update lease set resume_seconds = null, dormant_until = null where name = 'k'`); err != nil {
		t.Fatal(err)
	}
	late := make(chan lease.Got, 1)
	go func() {
		w := resumable("k", "b-3", "dr-a")
		w.Spawn.GoesOn = "b-2"
		got, _, err := d.Connect(t.Context(), []lease.Want{w})
		if err != nil {
			t.Error(err)
			got = make([]lease.Got, 1)
		}
		late <- got[0]
	}()
	d.blocked(1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-late; got.Result != lease.Unheld {
		t.Errorf("who came while it was forgotten: %+v", got)
	}
	if n := one[int](d, `select count(*) from backend`); n != 2 {
		t.Errorf("there were %d backends", n)
	}
}

// I1: a dormant key is not resumed in a database that was restored, before the drones have said what they run.
func TestI1DormantKeyIsNotResumedBeforeTheDatabaseIsSettled(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.dormant("k", "b-1")
	d.exec(`update setting set settled_home = 'elsewhere'`)
	if got := d.resume("k", "b-2", "b-1"); got.Result != lease.Unknown {
		t.Errorf("%+v", got)
	}
}
