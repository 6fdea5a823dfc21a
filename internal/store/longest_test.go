package store_test

import (
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
)

// I1: leases that were given before the time to live was lowered live for as long as before. Who waits in a database that
// was restored, or after its clock jumped, waits for those too: also a worker that starts only then.
// Found by lowering it from 60 s to 15 and failing over: 18 s later a key had two processes, for half a minute.
func TestI1LoweredTimeToLiveIsWaitedForInFull(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	for _, ttl := range []time.Duration{time.Minute, 15 * time.Second, 20 * time.Second} {
		if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	d.exec(`update home set id = ''`)
	later := &db{Store: openWith(t, d.dsn, lease.Terms{TTL: 15 * time.Second}), t: t, dsn: d.dsn, raw: d.raw}
	for range 2 {
		later.lookAtTheClock()
	}
	if later.Terms().TTL != 20*time.Second {
		t.Fatalf("leases live %s", later.Terms().TTL)
	}
	later.ClockJumped(time.Hour)
	later.lookAtTheClock()
	if home, jump := later.Waits(); home < time.Minute || jump < 50*time.Second {
		t.Errorf("it waits for %s in a restored database, and %s after a jump", home, jump)
	}
	longest := func() int64 { return one[int64](d, `select longest_ttl_ms from setting`) }
	if longest() != 60_000 {
		t.Fatalf("the longest is %d ms", longest())
	}
	later.LoweredLongAgo()
	later.lookAtTheClock()
	if longest() != 0 {
		t.Errorf("long after, the longest is %d ms", longest())
	}
}

// I6: the database's clock steps back by an hour, as when NTP corrects it, and a drone dies. Its keys are free after a lease's time
// or two, and not after an hour in which everybody is given its dead links; what is on record is published, and placed, as ever.
// I1: nobody's lease ends sooner by that than a renewal would have it end.
func TestI1I6ClockThatStepsBackBlocksNoKey(t *testing.T) {
	t.Parallel()
	for _, seen := range []bool{true, false} {
		d := newRunningDB(t)
		d.crew()
		if seen {
			d.lookAtTheClock()
		}
		d.exec(`update outbox set due_at = due_at + interval '1 hour'`)
		d.shift(-time.Hour)
		d.exec(`update lease set sealed_until = now() + interval '1 hour' where sealed_until is not null`)
		if seen {
			d.ClockJumped(-time.Hour)
			if jump := d.lookAtTheClock(); jump > -50*time.Minute {
				t.Fatalf("it has jumped by %s", jump)
			}
		} else {
			d.Store = open(t, d.dsn) // who starts after it
			d.lookAtTheClock()
		}
		for what, sql := range map[string]string{
			"sessions":      `select min(expires_at - now()), max(expires_at - now()) from session`,
			"sealed leases": `select min(sealed_until - now()), max(sealed_until - now()) from lease`,
		} {
			var least, most time.Duration
			if err := d.raw.QueryRow(t.Context(), sql).Scan(&least, &most); err != nil {
				t.Fatal(err)
			}
			if least < 40*time.Second || most > time.Minute {
				t.Errorf("%s end in %s to %s", what, least, most)
			}
		}
		for _, sql := range []string{
			`select count(*) from session where heard_at > now() or due_at > expires_at`,
			`select count(*) from outbox where due_at > now() + interval '2 minutes'`,
		} {
			if n := one[int](d, sql); n != 0 {
				t.Errorf("%s: %d", sql, n)
			}
		}
		d.ClockSettled()
		d.renew("dr-a", session)
		d.exec(`update session set expires_at = now(), due_at = now() where drone = 'dr-b'`) // a lease's time later
		d.transition(store.Change{BackendID: "b-silent", Event: lifecycle.Lost{}})
		if n := one[int](d, `select count(*) from backend where id = 'b-silent' and ended_at is not null`); n != 1 {
			t.Error("b-silent does not end")
		}
	}
}
