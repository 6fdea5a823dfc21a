package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// startWithin is the bound of a start in these tests.
const startWithin = 10 * time.Minute

// past lets time go by for one backend: all that is known of it, the end of its lease
// excepted, happened that much earlier.
func (d *db) past(id string, by time.Duration) {
	d.t.Helper()
	d.exec(`update connection set seen_at = seen_at - $2::interval, bytes_at = bytes_at - $2::interval where backend_id = $1`, id, by)
	d.exec(`update backend set due_at = due_at - $2::interval, created_at = created_at - $2::interval,
		changed_at = changed_at - $2::interval, asked_at = asked_at - $2::interval,
		lifetime_ends_at = lifetime_ends_at - $2::interval, last_keepalive_at = last_keepalive_at - $2::interval
		where id = $1`, id, by)
}

// look has the next sweep look at a backend, as when due_at has passed.
func (d *db) look(ids ...string) {
	d.t.Helper()
	d.exec(`update backend set due_at = now() - interval '1 second' where id = any($1)`, ids)
}

// sweep gives what one sweep did: the cause by backend.
func (d *db) sweep() (map[string]store.Cause, []outbox.Row) {
	d.t.Helper()
	swept, err := d.Sweep(context.Background(), startWithin)
	if err != nil {
		d.t.Fatal(err)
	}
	causes := make(map[string]store.Cause)
	for _, due := range swept.Done {
		if causes[due.BackendID] != "" {
			d.t.Errorf("%s was dealt with twice", due.BackendID)
		}
		causes[due.BackendID] = due.Cause
	}
	return causes, swept.Rows
}

// wantSweep wants a sweep to do just this.
func (d *db) wantSweep(want map[string]store.Cause) []outbox.Row {
	d.t.Helper()
	got, rows := d.sweep()
	if !maps.Equal(got, want) {
		d.t.Errorf("swept %v, want %v", got, want)
	}
	return rows
}

// terminations are the terminate actions among rows, in order.
func terminations(rows []outbox.Row) (list []string) {
	for _, r := range rows {
		if r.Kind == outbox.KindTerminate {
			list = append(list, r.BackendID+" "+string(r.Body))
		}
	}
	return list
}

func (d *db) wantTerminations(rows []outbox.Row, want ...string) {
	d.t.Helper()
	if got := terminations(rows); !slices.Equal(got, want) {
		d.t.Errorf("to be terminated: %v, want %v", got, want)
	}
}

// untilDue is how long nobody looks at a backend.
func (d *db) untilDue(id string) time.Duration {
	d.t.Helper()
	return time.Duration(one[float64](d, `select extract(epoch from due_at - now()) from backend where id = $1`, id) * float64(time.Second))
}

func (d *db) wantDueWithin(id string, from, to time.Duration) {
	d.t.Helper()
	if due := d.untilDue(id); due < from || due > to {
		d.t.Errorf("%s is looked at in %s, want %s to %s", id, due, from, to)
	}
}

// limited asks for a key whose backend has limits, in seconds; 0: none.
func (d *db) limited(id string, lifetime, idle int64) {
	d.t.Helper()
	w := want("k-"+id, id, "dr-a")
	w.Spawn.LifetimeSeconds, w.Spawn.MaxIdleSeconds = lifetime, idle
	d.connect(w)
}

func TestI6ExpiredLeaseEndsItsBackendAsLost(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-untaken", "b-ready", "b-released", "b-alive", "b-ended"} {
		d.spawn(id, id, "dr-a")
	}
	d.transition(reported("b-ready", messages.Ready))
	d.transition(reported("b-ended", messages.Terminated))
	d.exec(`delete from outbox where kind = 'state'`) // published
	d.expire("b-untaken")
	d.expire("b-ready")
	d.exec(`update lease set released_at = now() where backend_id = 'b-released'`)

	// Nobody has to look yet, and who looks finds the leases that hold.
	d.wantSweep(nil)
	d.look("b-untaken", "b-ready", "b-released", "b-alive", "b-ended")
	rows := d.wantSweep(map[string]store.Cause{"b-untaken": store.CauseLost, "b-ready": store.CauseLost, "b-released": store.CauseLost})
	for _, id := range []string{"b-untaken", "b-ready", "b-released"} {
		if info := d.status(id); info.Status != messages.Terminated || info.Reason != messages.ReasonLost || info.Kind != "" {
			t.Errorf("%s is %+v", id, info.State)
		}
		want := []messages.Status{messages.Terminated}
		if id != "b-ready" { // its spawn was not taken, so perhaps not published (I5)
			want = []messages.Status{messages.Scheduled, messages.Terminated}
		}
		if got := statesOf(rows, id); !slices.Equal(got, want) {
			t.Errorf("states of %s to publish: %v", id, got)
		}
		if one[bool](d, `select released_at is null from lease where backend_id = $1`, id) {
			t.Errorf("the lease of %s is still held", id)
		}
		// I5: published again, a spawn would take it back to scheduled.
		if n := one[int](d, `select count(*) from outbox where backend_id = $1 and until_status < 70`, id); n != 0 {
			t.Errorf("%d actions besides the last termination are on record of %s", n, id)
		}
	}
	if info := d.status("b-ready"); info.LastStatus != messages.Ready {
		t.Errorf("the last status is %s", info.LastStatus)
	}
	if len(terminations(rows)) != 3 {
		t.Errorf("to be terminated: %v", terminations(rows))
	}
	if d.status("b-alive").Status != messages.Scheduled {
		t.Error("a backend whose lease holds was ended")
	}
	d.wantDueWithin("b-alive", 9*time.Minute, 10*time.Minute) // by then it has to be ready
	d.look("b-untaken", "b-ready", "b-released", "b-ended")
	d.wantSweep(nil)
	if got := d.spawn("b-ready", "b-next", "dr-a"); got == 0 {
		t.Error("the key is not free")
	}
}

func TestI6BackendWhoseKeyAnotherHoldsEndsAsLost(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.exec(`update lease set backend_id = 'b-2' where name = 'k'`)
	d.look("b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseLost})
	if n := one[int](d, `select count(*) from lease where backend_id = 'b-2' and released_at is null`); n != 1 {
		t.Error("the other one's lease was released")
	}
}

func TestI1I6StartThatTakesTooLongIsKilledAndLosesItsLeaseWithTime(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-slow", "b-ready", "b-young"} {
		d.spawn(id, id, "dr-a")
		d.transition(reported(id, messages.Starting))
	}
	d.transition(reported("b-ready", messages.Ready))
	d.past("b-slow", startWithin+time.Second)
	d.past("b-ready", startWithin+time.Second)
	d.past("b-young", startWithin-5*time.Second)
	rows := d.wantSweep(map[string]store.Cause{"b-slow": store.CauseStart})
	d.wantTerminations(rows, `b-slow {"hard":true,"reason":"startup-timeout"}`)
	d.wantDueWithin("b-young", 0, 5*time.Second)

	// I1: it ends when its drone says so, or when its lease has run out, not before.
	if info := d.status("b-slow"); info.Status != messages.Starting {
		t.Errorf("it is %s while its drone may run it", info.Status)
	}
	if renewed := d.renew("dr-a", session, "b-slow", "b-ready"); !slices.Equal(renewed, []string{"b-ready"}) {
		t.Errorf("renewed %v", renewed)
	}
	for range 2 { // nothing more is done for now, however often it is looked at
		d.look("b-slow")
		d.wantSweep(nil)
	}
	d.wantDueWithin("b-slow", 50*time.Second, 60*time.Second)
	d.expire("b-slow")
	d.look("b-slow")
	d.wantSweep(map[string]store.Cause{"b-slow": store.CauseLost})
}

func TestI6LimitsEndABackendSoftlyOnceThenHardThenWithItsLease(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a") // its grace is 10 s, and a margin is as long
	d.limited("b-1", 100, 0)
	d.transition(reported("b-1", messages.Ready))
	d.past("b-1", 95*time.Second)
	d.wantSweep(nil)
	d.wantDueWithin("b-1", 0, 5*time.Second)
	d.past("b-1", 6*time.Second)
	rows := d.wantSweep(map[string]store.Cause{"b-1": store.CauseLifetime})
	d.wantTerminations(rows, `b-1 {"hard":false,"reason":"swept"}`)
	d.wantDueWithin("b-1", 0, 5*time.Second)
	for range 2 {
		d.look("b-1")
		d.wantSweep(nil)
	}
	d.wantDueWithin("b-1", 15*time.Second, 20*time.Second)

	// The drone says that it has told the process: its grace counts from there.
	d.past("b-1", 15*time.Second)
	d.transition(store.Change{BackendID: "b-1", Event: reportedFor(messages.Terminating, messages.ReasonSwept)})
	d.past("b-1", 15*time.Second)
	d.look("b-1")
	d.wantSweep(nil)
	d.past("b-1", 6*time.Second)
	d.look("b-1")
	rows = d.wantSweep(map[string]store.Cause{"b-1": store.CauseGrace})
	d.wantTerminations(rows, `b-1 {"hard":true,"reason":"swept"}`)
	if renewed := d.renew("dr-a", session, "b-1"); len(renewed) != 1 {
		t.Error("its lease is not renewed although its drone may still end it")
	}

	d.past("b-1", 9*time.Second)
	d.look("b-1")
	d.wantSweep(nil)
	d.past("b-1", 2*time.Second)
	rows = d.wantSweep(map[string]store.Cause{"b-1": store.CauseStuck})
	d.wantTerminations(rows)
	if renewed := d.renew("dr-a", session, "b-1"); len(renewed) != 0 {
		t.Error("the lease of what does not go is renewed for ever")
	}
	d.look("b-1")
	d.wantSweep(nil)
	d.expire("b-1")
	d.look("b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseLost})
	if info := d.status("b-1"); info.Status != messages.Terminated || info.Reason != messages.ReasonLost {
		t.Errorf("in the end it is %+v", info.State)
	}
}

func reportedFor(status messages.Status, reason messages.TerminationReason) lifecycle.Event {
	return lifecycle.Reported{State: messages.State{Status: status, Reason: reason}}
}

// A drone may end a backend on its own account, and then fail to.
func TestI6TerminationThatNobodyAskedForHasItsGraceToo(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k-soft", "b-soft", "dr-a")
	d.spawn("k-hard", "b-hard", "dr-a")
	d.transition(store.Change{BackendID: "b-soft", Event: reportedFor(messages.Terminating, messages.ReasonExternal)})
	d.transition(store.Change{BackendID: "b-hard", Event: reportedFor(messages.HardTerminating, messages.ReasonStartupTimeout)})
	d.past("b-soft", 21*time.Second)
	d.past("b-hard", 11*time.Second)
	d.look("b-soft", "b-hard")
	rows := d.wantSweep(map[string]store.Cause{"b-soft": store.CauseGrace, "b-hard": store.CauseStuck})
	d.wantTerminations(rows, `b-soft {"hard":true,"reason":"external"}`)
}

// The one who asked softly is the one in whose name it is killed, also when the drone
// has not said a word since.
func TestI6GraceOverKeepsTheReasonOfWhoAsked(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.transition(store.Change{BackendID: "b-1", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.wantDueWithin("b-1", 0, 5*time.Second)
	d.past("b-1", 21*time.Second)
	rows := d.wantSweep(map[string]store.Cause{"b-1": store.CauseGrace})
	d.wantTerminations(rows, `b-1 {"hard":true,"reason":"external"}`)
}

func TestGraceIsThatOfTheDrone(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for name, grace := range map[string]int64{"dr-a": 0, "dr-b": 60_000, "dr-c": 1} {
		r := registration(name, session)
		r.GraceMS = grace
		if _, err := d.Register(t.Context(), name, r); err != nil {
			t.Fatal(err)
		}
		d.renew(name, session)
		id := "b-" + name
		d.spawn("k-"+name, id, name)
		d.transition(store.Change{BackendID: id, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
		d.past(id, 18*time.Second)
		d.look(id)
	}
	d.wantSweep(map[string]store.Cause{"b-dr-c": store.CauseGrace})
	d.wantDueWithin("b-dr-a", 0, 2*time.Second)
	d.wantDueWithin("b-dr-b", 40*time.Second, 52*time.Second)
}

func TestIdleCountsFromReadyOrFromTheLastConnection(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-starting", "b-never", "b-left", "b-connected", "b-short", "b-unlimited", "b-unlimited-left"} {
		idle := int64(40)
		switch id {
		case "b-short":
			idle = 1
		case "b-unlimited", "b-unlimited-left":
			idle = 0
		}
		d.limited(id, 0, idle)
		if id != "b-starting" {
			d.transition(reported(id, messages.Ready))
		}
	}
	d.wantDueWithin("b-short", 0, time.Second)
	d.wantDueWithin("b-never", 30*time.Second, 40*time.Second)
	d.past("b-left", 45*time.Second)
	d.past("b-unlimited-left", 45*time.Second)
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-left", "b-unlimited-left"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b-starting", "b-never", "b-left", "b-connected", "b-unlimited", "b-unlimited-left"} {
		d.past(id, 45*time.Second)
		d.look(id)
	}
	d.past("b-short", time.Second)
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-connected", "b-short"}, nil); err != nil {
		t.Fatal(err)
	}
	// A proxy speaks of an open connection every ten seconds, not every second.
	d.past("b-short", 12*time.Second)
	rows := d.wantSweep(map[string]store.Cause{"b-never": store.CauseIdle, "b-left": store.CauseIdle})
	slices.SortFunc(rows, func(a, b outbox.Row) int { return len(a.BackendID) - len(b.BackendID) })
	d.wantTerminations(rows, `b-left {"hard":false,"reason":"swept"}`, `b-never {"hard":false,"reason":"swept"}`)
	d.wantDueWithin("b-starting", 30*time.Second, 40*time.Second)
	d.wantDueWithin("b-connected", 30*time.Second, 40*time.Second)
	d.wantDueWithin("b-short", 0, 3*time.Second)
	for _, id := range []string{"b-unlimited", "b-unlimited-left"} {
		if !one[bool](d, `select due_at = 'infinity' from backend where id = $1`, id) {
			t.Errorf("%s is looked at though nothing limits it", id)
		}
	}
	d.past("b-short", 4*time.Second)
	d.wantSweep(map[string]store.Cause{"b-short": store.CauseIdle})
}

// The report comes up to ten seconds after the last close, and two proxies may
// have seen different ones.
func TestIdleCountsFromTheLastCloseNotFromItsReport(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-a", "b-b"} {
		d.limited(id, 0, 40)
		d.transition(reported(id, messages.Ready))
		d.past(id, 39*time.Second)
	}
	for _, said := range [][]int64{{9000, 9000}, {20_000}, {7000, 3000}} {
		if err := d.Keepalive(t.Context(), "px-a", []string{"b-a", "b-b"}[:len(said)], said); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"b-a", "b-b"} {
		d.past(id, 2*time.Second)
		d.look(id)
	}
	d.wantSweep(map[string]store.Cause{})
	d.wantDueWithin("b-a", 29*time.Second, 31*time.Second)
	d.wantDueWithin("b-b", 33*time.Second, 35*time.Second)
}

// A connect has its backend looked at in time for its limits, and no later than its lease ends.
func TestI6NobodyIsLookedAtTooLate(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for id, c := range map[string]struct{ lifetime, idle, due int64 }{
		"b-none": {0, 0, 60}, "b-long": {900, 900, 60}, "b-life": {7, 900, 7}, "b-idle": {900, 9, 9},
	} {
		d.limited(id, c.lifetime, c.idle)
		d.wantDueWithin(id, time.Duration(c.due-5)*time.Second, time.Duration(c.due)*time.Second)
	}
}

// Whatever state a backend is in: after a sweep it is looked at again no later than the first thing
// that may be due, and it ends in a bounded number of sweeps.
func TestI6EveryBackendEndsWhateverItsState(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	n := 0
	checkLives(t, func(t *rapid.T) {
		n++
		id := fmt.Sprintf("b-%d", n)
		d.limited(id, 3600, rapid.SampledFrom([]int64{0, 20}).Draw(t, "idle"))
		for _, e := range rapid.SliceOfN(anyEvent(), 0, 5).Draw(t, "events") {
			if _, lost := e.(lifecycle.Lost); lost {
				d.expire(id)
			}
			d.transition(store.Change{BackendID: id, Event: e})
		}
		for sweeps := 0; d.status(id).Status != messages.Terminated; sweeps++ {
			if sweeps > 12 {
				t.Fatalf("after %d sweeps it is %+v", sweeps, d.status(id).State)
			}
			// Its drone renews for as long as it may, and says nothing.
			d.renew("dr-a", session, id)
			if one[bool](d, `select coalesce(bool_or(due_at > least(lifetime_ends_at, case when status < 50 then created_at + $2::interval end) + interval '1 minute'), false)
				from backend where id = $1 and asked = 0`, id, startWithin) {
				t.Fatal("it is looked at long after something is due")
			}
			d.past(id, startWithin)
			d.exec(`update lease set sealed_until = now() where backend_id = $1 and sealed_until is not null`, id)
			d.sweep()
		}
	})
}
