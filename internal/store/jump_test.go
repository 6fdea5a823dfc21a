package store_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// shift has all that the database knows have happened that much earlier, as it looks after a jump of its clock.
func (d *db) shift(by time.Duration) {
	d.t.Helper()
	d.exec(`update session set expires_at = expires_at - $1::interval, heard_at = heard_at - $1::interval, due_at = due_at - $1::interval,
		sealed_at = sealed_at - $1::interval`, by)
	d.exec(`update lease set sealed_until = sealed_until - $1::interval`, by)
	d.exec(`update backend set due_at = due_at - $1::interval, created_at = created_at - $1::interval, changed_at = changed_at - $1::interval,
		asked_at = asked_at - $1::interval, lifetime_ends_at = lifetime_ends_at - $1::interval, last_keepalive_at = last_keepalive_at - $1::interval`, by)
	d.exec(`update connection set seen_at = seen_at - $1::interval`, by)
	d.exec(`update proxy set heard_at = heard_at - $1::interval`, by)
}

// lookAtTheClock has the store look at the clock, and gives by how much it has jumped.
func (d *db) lookAtTheClock() time.Duration {
	d.t.Helper()
	jump, err := d.Look(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return jump
}

// crew is a drone that is there and one that will be silent, with a backend of each kind. It gives the backends.
func (d *db) crew() []string {
	d.t.Helper()
	d.drone("dr-a")
	d.drone("dr-b")
	d.limited("b-limited", 90, 30)
	d.limited("b-visited", 0, 30)
	d.spawn("k-b-starts", "b-starts", "dr-a")
	d.spawn("k-b-silent", "b-silent", "dr-b")
	d.spawn("k-b-sealed", "b-sealed", "dr-a")
	all := []string{"b-limited", "b-visited", "b-starts", "b-silent", "b-sealed"}
	for _, id := range all {
		if id != "b-starts" {
			d.transition(reported(id, messages.Ready))
		}
	}
	d.exec(`update lease set sealed_until = now() + interval '50 seconds' where backend_id = 'b-sealed'`)
	if err := d.Keepalive(d.t.Context(), "px-a", []string{"b-visited"}, nil); err != nil {
		d.t.Fatal(err)
	}
	return all
}

// wantNothingLost wants that nobody takes anything over, calls anything lost or ends it, whatever is asked; and
// that who asks for a key joins its backend.
func (d *db) wantNothingLost(what string, backends []string) {
	d.t.Helper()
	e, err := d.Expire(d.t.Context())
	if err != nil || len(e.Drones) != 0 || len(e.Done) != 0 {
		d.t.Errorf("%s: expired: %+v, %v", what, e, err)
	}
	d.look(backends...)
	if swept, _ := d.sweep(); len(swept) != 0 {
		d.t.Errorf("%s: swept: %v", what, swept)
	}
	for _, id := range backends {
		if rows := d.transition(store.Change{BackendID: id, Event: lifecycle.Lost{}}); len(terminations(rows)) != 0 {
			d.t.Errorf("%s: %s is called lost", what, id)
		}
		w := want("k-"+id, "b-other", "dr-a")
		w.Tokens[0].Hash = lease.HashToken(what + id)
		if got, rows := d.connect(w); got[0].Result != lease.Held || got[0].BackendID != id || got[0].Leaving || len(rows) != 0 {
			d.t.Errorf("%s: who asks for the key of %s gets %+v", what, id, got[0])
		}
	}
	for _, name := range []string{"dr-a", "dr-b"} {
		r := registration(name, "s-other")
		r.MachineID = "another"
		if _, err := d.Register(d.t.Context(), name, r); messages.KindOf(err) != messages.DroneHeld {
			d.t.Errorf("%s: another machine takes the name %s: %v", what, name, err)
		}
	}
}

// I1: the database's clock jumps ahead by more than a lease lives. Nothing is taken over, called lost or swept
// for as long as a lease lives; drones renew what seems to have expired; then all is as usual.
// Found by setting Postgres' clock three minutes ahead: all backends were lost, half of the keys had two processes.
func TestI1ClockThatJumpsAheadTakesNothingFromAnybody(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	backends := d.crew()
	d.shift(3 * time.Minute)
	d.ClockJumped(3 * time.Minute)
	d.wantNothingLost("before anybody has looked", backends)
	if jump := d.lookAtTheClock(); jump < 2*time.Minute || jump > 4*time.Minute {
		t.Errorf("the clock has jumped by %s", jump)
	}
	d.wantNothingLost("after the jump is known", backends)

	if renewed := d.renew("dr-a", session, backends...); !slices.Equal(renewed, []string{"b-limited", "b-visited", "b-starts"}) {
		t.Errorf("renewed %v", renewed)
	}
	if jump := d.lookAtTheClock(); jump != 0 {
		t.Errorf("it has jumped once more, by %s", jump)
	}
	d.wantNothingLost("after a renewal", backends)
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-visited"}, nil); err != nil {
		t.Fatal(err)
	}

	d.ClockSettled()
	e, err := d.Expire(t.Context())
	if err != nil || len(e.Drones) != 1 || e.Drones[0].Drone != "dr-b" || len(e.Done) != 1 || e.Done[0].BackendID != "b-silent" {
		t.Errorf("in the end: %+v, %v", e, err)
	}
	d.look(backends...)
	d.wantSweep(map[string]store.Cause{"b-limited": store.CauseLifetime, "b-sealed": store.CauseLost})
}

// I1: who has just started has seen no clock. What has expired by then, and nobody has seen to, is left
// alone for a lease's time, in which its drone renews: the clock may have jumped before, or the database be restored
// from a dump that knows no renewals since.
func TestI1WorkerThatStartsTakesNothingThatHasExpiredBefore(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	backends := d.crew()
	d.shift(3 * time.Minute)
	d.Store = open(t, d.dsn)
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.wantNothingLost("a worker that starts", backends)
	d.lookAtTheClock()
	d.wantNothingLost("its second look", backends)
	d.renew("dr-a", session)
	d.ClockSettled()
	if names, _ := d.lostDrones(); !slices.Equal(names, []string{"dr-b"}) {
		t.Errorf("lost in the end: %v", names)
	}

	// Where all has been seen to, it does not wait.
	d.Store = open(t, d.dsn)
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.expireSession("dr-a")
	if names, _ := d.lostDrones(); !slices.Equal(names, []string{"dr-a"}) {
		t.Errorf("lost: %v", names)
	}
}

// The clock jumps back: nothing counts as expired for a lease's time, and what is alive goes on.
func TestI1ClockThatJumpsBackTakesNothingFromAnybody(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	backends := d.crew()
	d.shift(-3 * time.Minute)
	d.ClockJumped(-3 * time.Minute)
	if jump := d.lookAtTheClock(); jump > -2*time.Minute || jump < -4*time.Minute {
		t.Errorf("the clock has jumped by %s", jump)
	}
	for _, id := range backends {
		d.expire(id)
	}
	d.expireSession("dr-b")
	d.expireSession("dr-a")
	d.wantNothingLost("after the jump is known", backends)
	d.exec(`update lease set sealed_until = null`)
	d.renew("dr-a", session)
	d.ClockSettled()
	if names, _ := d.lostDrones(); !slices.Equal(names, []string{"dr-b"}) {
		t.Errorf("lost in the end: %v", names)
	}
	d.look(backends...)
	if swept, _ := d.sweep(); !maps.Equal(swept, map[string]store.Cause{}) {
		t.Errorf("swept: %v", swept)
	}
}
