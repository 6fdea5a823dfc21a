package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// sleepers registers a drone that puts backends to sleep.
func (d *db) sleepers(name string) {
	d.t.Helper()
	r := registration(name, session)
	r.Sleeps = true
	if _, err := d.Register(d.t.Context(), name, r); err != nil {
		d.t.Fatal(err)
	}
	d.renew(name, session)
}

// tired spawns a backend that sleeps after so many seconds and is ready.
func (d *db) tired(id, drone string, sleepAfter, maxIdle int64) {
	d.t.Helper()
	w := want("k-"+id, id, drone)
	w.Spawn.SleepAfterSeconds, w.Spawn.MaxIdleSeconds = sleepAfter, maxIdle
	if got, _ := d.connect(w); got[0].Result != lease.Acquired {
		d.t.Fatalf("%s: %+v", id, got[0])
	}
	d.transition(reported(id, messages.Ready))
}

// goesBy lets time go by for backends, and has the next sweep look at them.
func (d *db) goesBy(by time.Duration, ids ...string) {
	d.t.Helper()
	d.passes(by, ids...)
	d.exec(`update backend set napped_at = napped_at - $1::interval where id = any($2)`, by, ids)
	d.look(ids...)
}

// naps are those among rows.
func naps(rows []outbox.Row) (list []string) {
	for _, r := range rows {
		if r.Kind == outbox.KindNap {
			list = append(list, fmt.Sprint(r.BackendID, " ", r.Nap))
		}
	}
	slices.Sort(list)
	return list
}

func (d *db) wantNaps(rows []outbox.Row, want ...string) {
	d.t.Helper()
	if got := naps(rows); !slices.Equal(got, want) {
		d.t.Errorf("naps %v, want %v", got, want)
	}
}

func (d *db) wake(ids ...string) []outbox.Row {
	d.t.Helper()
	rows, err := d.Wake(d.t.Context(), ids)
	if err != nil {
		d.t.Fatal(err)
	}
	return rows
}

func napSaid(id string, nap messages.Nap) store.Change {
	return store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: nap}}
}

// onRecord are the naps that are.
func (d *db) onRecord(id string) string {
	d.t.Helper()
	return one[string](d, `select coalesce(string_agg(nap::text, ' ' order by nap), '') from outbox where backend_id = $1 and kind = 'nap'`, id)
}

// The demand: a backend to which nobody is connected for sleep_after_seconds sleeps, by the rules of idle times: silence is not absence, a join is
// activity, and one that was woken is awake for as long. Where its drone cannot, it does not. Its other limits count on, and nobody looks at it
// while it sleeps for ever.
func TestI8WhatNobodyIsConnectedToSleeps(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	d.drone("dr-b")
	d.tired("b-1", "dr-a", 30, 0)
	d.wantDueWithin("b-1", 0, 30*time.Second)
	d.tired("b-old", "dr-b", 30, 0)
	d.tired("b-never", "dr-a", 0, 0)
	d.tired("b-visited", "dr-a", 30, 0)
	d.tired("b-joined", "dr-a", 30, 0)
	d.tired("b-ends", "dr-a", 30, 45)
	all := []string{"b-1", "b-old", "b-never", "b-visited", "b-joined", "b-ends"}

	d.goesBy(29*time.Second, all...)
	d.wantSweep(nil)
	d.says("px-a", "b-visited")
	d.connect(lease.Want{Key: messages.Key{Name: "k-b-joined"}, Tokens: []lease.Token{{Hash: []byte("t"), Auth: []byte("{}"), LifeSeconds: 60}}})
	// Time stands still here, but for what a join writes.
	d.exec(`update backend set last_keepalive_at = now() where id = 'b-joined' and last_keepalive_at > created_at`)
	d.goesBy(2*time.Second, all...)
	rows := d.wantSweep(map[string]store.Cause{"b-1": store.CauseAsleep, "b-ends": store.CauseAsleep})
	d.wantNaps(rows, "b-1 1", "b-ends 1")
	if b := d.status("b-1"); !b.Asleep || b.Nap.Nap != 1 || b.Status != messages.Ready || *b.SleepAfterSeconds != 30 || d.onRecord("b-1") != "1" {
		t.Errorf("it is %+v, on record: %s", b, d.onRecord("b-1"))
	}
	d.look(all...)
	d.wantSweep(nil)
	d.exec(`update backend set due_at = now() where id = any('{b-1,b-old,b-never}')`)
	d.wantSweep(nil)
	if n := one[int](d, `select count(*) from backend where due_at = 'infinity'`); n != 3 {
		t.Errorf("%d backends are looked at never again, want 3: who sleeps and has no limit, and who never sleeps", n)
	}
	// The proxy that said so is silent; then it says that nobody is there any more. A join keeps it awake for so long, too.
	d.goesBy(40*time.Second, "b-visited")
	d.wantSweep(nil)
	d.says("px-a")
	d.goesBy(31*time.Second, "b-visited", "b-joined")
	d.wantSweep(map[string]store.Cause{"b-visited": store.CauseAsleep, "b-joined": store.CauseAsleep})
	// The idle limit counts on.
	d.goesBy(15*time.Second, "b-ends")
	rows = d.wantSweep(map[string]store.Cause{"b-ends": store.CauseIdle})
	d.wantNaps(rows, "b-ends 2")
	d.wantTerminations(rows, `b-ends {"hard":false,"reason":"swept"}`)

	// Woken, it is awake for as long again. Its drone says what it has applied.
	d.wantNaps(d.wake(all...), "b-1 2", "b-joined 2", "b-visited 2")
	d.wantNaps(d.wake(all...))
	d.wantDueWithin("b-1", 0, 30*time.Second)
	d.goesBy(29*time.Second, "b-1")
	d.wantSweep(nil)
	d.goesBy(2*time.Second, "b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseAsleep})
	if got := d.onRecord("b-1"); got != "1 2 3" {
		t.Errorf("on record: %s", got)
	}
	d.transition(napSaid("b-1", messages.Nap{Nap: 2}))
	if got := d.onRecord("b-1"); got != "3" {
		t.Errorf("nap 2 is applied; on record: %s", got)
	}
	d.transition(napSaid("b-1", messages.Nap{Nap: 3, Asleep: true, ReclaimedBytes: 7 << 20}))
	if b := d.status("b-1"); d.onRecord("b-1") != "" || !b.Asleep || b.ReclaimedBytes != 7<<20 {
		t.Errorf("nap 3 is applied; on record: %s; it is %+v", d.onRecord("b-1"), b.Nap)
	}
	// In doubt its drone woke it.
	d.wantNaps(d.transition(napSaid("b-1", messages.Nap{Nap: 3})), "b-1 4")

	// An agent that can put backends to sleep takes over what one had that could not.
	r := registration("dr-b", "s-2", "b-old")
	r.Sleeps = true
	if _, err := d.Register(t.Context(), "dr-b", r); err != nil {
		t.Fatal(err)
	}
	d.renew("dr-b", "s-2")
	d.wantDueWithin("b-old", 0, 30*time.Second)
	d.goesBy(time.Second, "b-old")
	d.wantSweep(map[string]store.Cause{"b-old": store.CauseAsleep})
}

// The demand: whoever asks for a backend wakes it, and where it is awake nothing is written.
func TestI3WhoeverAsksForABackendWakesIt(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	d.tired("b-1", "dr-a", 30, 0)
	sleep := func() {
		t.Helper()
		resp, rows, err := d.Nap(t.Context(), "b-1", true)
		if err != nil || !resp.Asleep || len(naps(rows)) != 1 {
			t.Fatalf("%+v, %v, %v", resp, rows, err)
		}
	}
	join := lease.Want{Key: messages.Key{Name: "k-b-1"}, Tokens: []lease.Token{{Hash: []byte("t"), Auth: []byte("{}"), LifeSeconds: 3600}}}

	sleep()
	got, rows := d.connect(join)
	if d.wantNaps(rows, "b-1 2"); got[0].Result != lease.Held || got[0].Status != messages.Ready {
		t.Errorf("joined as %+v", got[0])
	}
	before := one[string](d, `select xmin::text from backend where id = 'b-1'`)
	join.Tokens[0].Hash = []byte("t2")
	_, rows = d.connect(join)
	d.wantNaps(rows)
	routes, err := d.Routes(t.Context(), []string{"token-of-b-1"})
	if err != nil || !routes[0].Sleeps || routes[0].Asleep {
		t.Errorf("the route is %+v, %v", routes[0], err)
	}
	d.wantNaps(d.wake("b-1"))
	if after := one[string](d, `select xmin::text from backend where id = 'b-1'`); after != before {
		t.Error("what asks for a backend that is awake has written its row")
	}

	sleep()
	if routes, err = d.Routes(t.Context(), []string{"token-of-b-1"}); err != nil || !routes[0].Asleep {
		t.Errorf("the route is %+v, %v", routes[0], err)
	}
	// Another tag is refused, and wakes nothing.
	join.Key.Tag, join.Tokens[0].Hash = "other", []byte("t3")
	_, rows = d.connect(join)
	d.wantNaps(rows)
	rows = d.transition(store.Change{BackendID: "b-1", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.wantNaps(rows, "b-1 4")
	d.wantTerminations(rows, `b-1 {"hard":false,"reason":"external"}`)
	d.transition(reported("b-1", messages.Terminating))
	if got := d.onRecord("b-1"); got != "" {
		t.Errorf("it ends, and on record is %s", got)
	}
}

// sweepMeanwhile sweeps b-1, which is to sleep. When the sweep has looked, and waits for the backend's row, something happens.
func (d *db) sweepMeanwhile(happens func()) []outbox.Row {
	d.t.Helper()
	tx, err := d.raw.Begin(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(d.t.Context())) }()
	swept := make(chan store.Swept, 1)
	d.exec(`create function slow() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock(17); return new; end'`)
	d.exec(`create trigger slow before update of nap on backend for each row when (new.nap = 1) execute function slow()`)
	if _, err := tx.Exec(d.t.Context(), `select pg_advisory_xact_lock(17)`); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		s, err := d.Sweep(context.Background(), startWithin)
		if err != nil {
			d.t.Error(err)
		}
		swept <- s
	}()
	d.blocked(1)
	happens()
	if err := tx.Rollback(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	return testkit.Receive(d.t, swept, "the sweep").Rows
}

// A keepalive that comes while a sweep puts its backend to sleep does not see that, nor the sweep the keepalive: one of the two looks again and
// sees the other, whichever commits last.
func TestI3NobodySleepsWhileSomebodyIsConnected(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	d.tired("b-1", "dr-a", 30, 0)
	d.goesBy(31*time.Second, "b-1")

	d.wantNaps(d.sweepMeanwhile(func() {
		d.says("px-a", "b-1")
		d.wantNaps(d.wake("b-1")) // it does not see that it is put to sleep
	}), "b-1 1", "b-1 2")
	if d.status("b-1").Asleep {
		t.Error("it sleeps, and somebody is connected")
	}
}

// The demand: what is starting, to end or has ended, and what is on a drone that cannot, is not put to sleep by hand; the refusal says why. Again is no error.
func TestSleepByHandIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	d.drone("dr-b")
	d.spawn("k-starting", "b-starting", "dr-a")
	d.transition(reported("b-starting", messages.Waiting))
	for _, id := range []string{"b-asked", "b-ending", "b-ended"} {
		d.tired(id, "dr-a", 0, 0)
	}
	d.tired("b-old", "dr-b", 0, 0)
	d.transition(store.Change{BackendID: "b-asked", Event: lifecycle.TerminateAsked{Why: messages.Why{Cause: messages.CauseAsked, Words: "ada asked"}}})
	d.transition(reported("b-ending", messages.Terminating))
	d.transition(reported("b-ended", messages.Terminated))
	for id, words := range map[string]string{
		"b-starting": "is waiting", "b-asked": "ada asked", "b-ending": "it ends", "b-ended": "has ended", "b-old": "dr-b, which does not put", "b-none": "no backend",
	} {
		_, rows, err := d.Nap(t.Context(), id, true)
		kind := messages.CannotSleep
		if id == "b-none" {
			kind = messages.NotFound
		}
		if messages.KindOf(err) != kind || !strings.Contains(err.Error(), words) || len(naps(rows)) > 0 {
			t.Errorf("%s: %v, %v", id, naps(rows), err)
		}
	}
	if _, _, err := d.Nap(t.Context(), "b-ended", false); messages.KindOf(err) != messages.CannotSleep {
		t.Errorf("woken, having ended: %v", err)
	}
	d.tired("b-1", "dr-a", 0, 0)
	for _, sleep := range []bool{false, true, true, false, false} {
		resp, rows, err := d.Nap(t.Context(), "b-1", sleep)
		if err != nil || resp.Asleep != sleep || resp.Asleep != messages.AsleepAt(resp.Nap) || len(naps(rows)) > 1 {
			t.Errorf("%t: %+v, %v, %v", sleep, resp, naps(rows), err)
		}
	}
}

// However many workers sweep and wake at the same time, each change is one nap, one event and one action.
func TestI3EachChangeIsOneNapHoweverManyWorkersThereAre(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprintf("b-%02d", i))
		d.tired(ids[i], "dr-a", 30, 0)
	}
	together := func(what func() ([]outbox.Row, error)) (got []string) {
		t.Helper()
		rows := make(chan []outbox.Row, 4)
		for range cap(rows) {
			go func() {
				some, err := what()
				if err != nil {
					t.Error(err)
				}
				rows <- some
			}()
		}
		for range cap(rows) {
			got = append(got, naps(<-rows)...)
		}
		slices.Sort(got)
		return got
	}
	wanted := func(nap int) (list []string) {
		for _, id := range ids {
			list = append(list, fmt.Sprint(id, " ", nap))
		}
		return list
	}
	for nap := 1; nap < 5; nap += 2 {
		d.goesBy(31*time.Second, ids...)
		slept := together(func() ([]outbox.Row, error) {
			swept, err := d.Sweep(context.Background(), startWithin)
			return swept.Rows, err
		})
		if !slices.Equal(slept, wanted(nap)) {
			t.Errorf("put to sleep: %v", slept)
		}
		woken := together(func() ([]outbox.Row, error) { return d.Wake(context.Background(), ids) })
		if !slices.Equal(woken, wanted(nap+1)) {
			t.Errorf("woken: %v", woken)
		}
	}
}
