package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// from registers a drone from another machine than its own, or from its own after another start.
func (d *db) from(name, session, machine, boot string, backends ...string) (store.Registered, error) {
	d.t.Helper()
	r := registration(name, session, backends...)
	r.MachineID, r.BootID = machine, boot
	return d.Register(d.t.Context(), name, r)
}

// joins asks for a key and wants its holder, unchanged.
func (d *db) joins(key, holder string) {
	d.t.Helper()
	w := want(key, "b-other", "dr-b")
	w.Tokens[0].Hash = lease.HashToken(key + holder + time.Now().String())
	got, rows := d.connect(w)
	if got[0].Result != lease.Held || got[0].BackendID != holder || got[0].Leaving || len(rows) != 0 {
		d.t.Errorf("who asks for the key %s gets %+v, %v; %s holds it", key, got[0], rows, holder)
	}
}

// I1: while a machine is heard under a drone's name, no other gets it, and is told of both. Another start of the
// same machine's system is another machine: it may be a clone.
func TestI1NameOfADroneIsItsMachinesWhileThatIsHeard(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.spawn("k", "b-1", "dr-a")
	for _, other := range [][2]string{{"m-other", "boot"}, {"m-dr-a", "boot-2"}, {"m-other", "boot-2"}} {
		before := one[string](d, `select s::text || d::text from session s join drone d on d.name = s.drone where s.drone = 'dr-a'`)
		_, err := d.from("dr-a", "s-2", other[0], other[1], "b-1")
		if messages.KindOf(err) != messages.DroneHeld {
			t.Fatalf("machine %v got the name of one that is heard: %v", other, err)
		}
		for _, words := range []string{"dr-a", "m-dr-a", "(boot boot)", other[0], "(boot " + other[1] + ")", "another name"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("it does not say %q: %v", words, err)
			}
		}
		if here := strings.Contains(err.Error(), "this very machine"); here != (other[1] == "boot") {
			t.Errorf("that it is this machine with another data directory it says: %v, of %v", err, other)
		}
		if after := one[string](d, `select s::text || d::text from session s join drone d on d.name = s.drone where s.drone = 'dr-a'`); after != before {
			t.Errorf("it changed something: %s, now %s", before, after)
		}
	}
	d.renew("dr-a", session)
	d.joins("k", "b-1")
	if n := one[int](d, `select count(*) from session where drone = 'dr-a'`); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// I1: a machine that is not heard any more loses its name to the next one, and nothing else: what it may still run
// keeps its keys until its lease ends, whatever the next one names or says of it. It is renewed no more.
// Found by starting an agent of the same name on another machine while the first one was cut off: its keys were free at once.
func TestI1ReplacedMachineKeepsItsKeysUntilItsLeaseEnds(t *testing.T) {
	t.Parallel()
	for name, other := range map[string][2]string{"another machine": {"m-other", "boot"}, "another start of it": {"m-dr-a", "boot-2"}} {
		for _, named := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, naming its backend: %v", name, named), func(t *testing.T) {
				t.Parallel()
				d := newDB(t)
				d.drone("dr-a")
				d.drone("dr-b")
				d.spawn("k", "b-1", "dr-a")
				d.spawn("j", "b-untaken", "dr-a")
				d.transition(reported("b-1", messages.Ready))
				d.exec(`update session set heard_at = now() - interval '21 seconds' where drone = 'dr-a'`)
				var backends []string
				if named {
					backends = []string{"b-1"}
				}
				ends := one[string](d, `select expires_at::text from session where drone = 'dr-a'`)
				done, err := d.from("dr-a", "s-2", other[0], other[1], backends...)
				if err != nil || len(done.Orphans) != 0 || !slices.Equal(done.Lost, backends) {
					t.Fatalf("registered: %+v, %v", done, err)
				}
				d.renew("dr-a", "s-2")
				d.joins("k", "b-1")
				d.joins("j", "b-untaken")
				if after := one[string](d, `select expires_at::text from session where drone = 'dr-a' and id = $1`, session); after != ends {
					t.Errorf("its lease ended at %s, now at %s", ends, after)
				}
				if heard, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true}); err != nil || heard.Known {
					t.Errorf("the replaced one's heartbeat: %+v, %v", heard, err)
				}
				// The next one speaks for itself only, also when it compares what it holds.
				for _, status := range []messages.Status{messages.Terminating, messages.Terminated} {
					rows, foreign, err := d.Transition(t.Context(), &store.Holder{Drone: "dr-a", Session: "s-2"}, []store.Change{reported("b-1", status)})
					if err != nil || !slices.Equal(foreign, []string{"b-1"}) || slices.Contains(statesOf(rows, "b-1"), status) {
						t.Errorf("it reports of another's: %v, %v, %v", rows, foreign, err)
					}
				}
				d.exec(`update backend set changed_at = changed_at - interval '1 hour'`)
				if again, err := d.from("dr-a", "s-2", other[0], other[1]); err != nil || len(again.Orphans) != 0 {
					t.Errorf("compared: %+v, %v", again, err)
				}
				if third, err := d.from("dr-a", "s-3", other[0], other[1]); err != nil || len(third.Orphans) != 0 {
					t.Errorf("its next session: %+v, %v", third, err)
				}
				d.look("b-1", "b-untaken")
				d.wantSweep(nil)
				if names, _ := d.lostDrones(); len(names) != 0 {
					t.Errorf("lost: %v", names)
				}
				d.joins("k", "b-1")

				d.exec(`update session set expires_at = now() - interval '1 second' where drone = 'dr-a' and id = $1`, session)
				e, err := d.Expire(t.Context())
				if err != nil || len(e.Drones) != 0 || len(e.Done) != 2 {
					t.Errorf("when its lease has ended: %+v, %v", e, err)
				}
				if info := d.status("b-1"); info.Status != messages.Terminated || info.Reason != messages.ReasonLost {
					t.Errorf("it is %+v", info.State)
				}
				if d.spawn("k", "b-2", "dr-b") == 0 {
					t.Error("the key is not free")
				}
			})
		}
	}
}

// The same machine in the same boot knows what runs on it: what it does not name is free at once, also what an
// earlier session of it had, and what it names goes on.
func TestSameMachineFreesAtOnceWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.spawn("k", "b-1", "dr-a")
	d.spawn("j", "b-2", "dr-a")
	d.transition(reported("b-1", messages.Ready), reported("b-2", messages.Ready))
	done, err := d.from("dr-a", "s-2", "m-dr-a", "boot", "b-2")
	if err != nil || len(done.Lost) != 0 || len(done.Orphans) != 1 || done.Orphans[0].BackendID != "b-1" {
		t.Fatalf("registered: %+v, %v", done, err)
	}
	d.transition(done.Orphans...)
	d.joins("j", "b-2")
	if d.spawn("k", "b-3", "dr-b") == 0 {
		t.Error("the key is not free")
	}
	if info := d.status("b-1"); info.Status != messages.Terminated || info.Reason != messages.ReasonLost {
		t.Errorf("what it did not name is %+v", info.State)
	}
}

// I1: a key is sealed while its backend goes over to the next session of its drone, with another lease: it is
// either sealed in that one, which the drone is told of, or not at all, but never until the end of the lease before.
func TestI1SealThatMeetsAnAdoptionHoldsForTheNewLease(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.transition(reported("b-1", messages.Starting))
	d.exec(`update session set expires_at = now() + interval '3 seconds'`)
	tx, err := d.raw.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	// As a registration does it.
	for _, sql := range []string{
		`select from session where drone = 'dr-a' for no key update`,
		`insert into session (drone, id, machine_id, boot_id, expires_at, home, drone_time_ms, due_at)
			select drone, 's-2', machine_id, boot_id, now() + interval '1 minute', home, 0, now() + interval '1 minute' from session`,
		`update session set sealed_at = now() where id = 's-1'`,
		`update backend set session = 's-2'`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	sealed := make(chan error, 1)
	go func() { sealed <- d.Seal(context.Background(), "b-1") }()
	d.blocked(1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-sealed; err != nil {
		t.Fatal(err)
	}
	if one[bool](d, `select exists (select from lease where sealed_until < now() + interval '30 seconds')`) {
		t.Error("the key is free before the lease ends that its drone was told of")
	}
	// The next sweep finds it where it is now.
	if err := d.Seal(t.Context(), "b-1"); err != nil {
		t.Fatal(err)
	}
	if !one[bool](d, `select l.sealed_until = s.expires_at from lease l, session s where s.id = 's-2'`) {
		t.Error("it is not sealed in its session")
	}
}
