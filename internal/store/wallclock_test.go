package store

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// I1: whatever the database's clock does, nothing counts as expired by more than a sixth of a lease too
// early: what lies between a drone's hard deadline and its lease's end. So for a lease that was written at any
// time within a lease's life, the clock may have gained no more than that where it is trusted.
func TestI1AClockThatJumpsIsNotTrustedForALease(t *testing.T) {
	t.Parallel()
	for range 4 { // checkLives has few checks done, for those that live in Postgres; these cost nothing
		rapid.Check(t, clockThatJumps)
	}
}

func clockThatJumps(t *rapid.T) {
	const ttl = time.Minute
	var here time.Duration // this machine's clock
	var off time.Duration  // by how much the database's has gained on it
	begin := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	c := newWallClock(ttl)
	c.now = func() time.Duration { return here }
	then := func() time.Time { return begin.Add(here + off) }
	if !c.trusted().Before(then()) {
		t.Fatal("it is trusted before anybody has looked")
	}
	far := rapid.Int64Range(0, int64(ttl/5)).Draw(t, "far away") // how long looks may take
	type moment struct{ here, off time.Duration }
	var seen []moment
	look := func() time.Duration {
		if !c.looked() {
			seen = nil // what was before the first look that told something is for the store to judge
		}
		before := here
		here += time.Duration(rapid.Int64Range(0, far).Draw(t, "there"))
		read := then()
		here += time.Duration(rapid.Int64Range(0, far).Draw(t, "back"))
		return c.take(before, here, read)
	}
	look()
	seen = append(seen, moment{here, off})
	var quietUntil time.Duration
	check := func() {
		if then().After(c.trusted()) {
			return // nothing counts as expired
		}
		if here < quietUntil {
			t.Fatalf("it is trusted %s before the end of the lease's time after a jump", quietUntil-here)
		}
		for _, m := range seen {
			if here-m.here <= ttl && off-m.off > ttl/6 {
				t.Fatalf("it is trusted at %s although it has gained %s in the %s before", here, off-m.off, here-m.here)
			}
		}
	}
	jumps := rapid.OneOf(
		rapid.Int64Range(-int64(ttl/10), int64(ttl/10)), // as between two clocks that are set right slowly
		rapid.Int64Range(-int64(time.Hour), int64(time.Hour)),
	)
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		here += time.Duration(rapid.Int64Range(0, int64(ttl/2)).Draw(t, "passes"))
		check()
		if rapid.IntRange(0, 2).Draw(t, "jumps") == 0 {
			off += time.Duration(jumps.Draw(t, "by"))
			seen = append(seen, moment{here, off})
			check()
		}
		if jump := look(); jump != 0 {
			quietUntil = here + ttl
		}
		seen = append(seen, moment{here, off})
		check()
	}
	// A clock that behaves is trusted again, however far away, as long as drones can renew from there.
	way := time.Duration(rapid.Int64Range(0, int64(ttl/12)).Draw(t, "way"))
	for range 130 {
		here += time.Second
		before := here
		here += way
		read := then()
		here += way
		c.take(before, here, read)
	}
	if trusted := c.trusted(); then().Add(way).After(trusted) {
		t.Fatal("it is never trusted again")
	}
}

// A jump of the clock is told by how much, in each direction; small differences and looks that took too long say nothing.
func TestJumpsOfTheClockAreTold(t *testing.T) {
	t.Parallel()
	const ttl = time.Minute
	for _, by := range []time.Duration{3 * time.Minute, -3 * time.Minute, 6 * time.Second, -6 * time.Second, 4 * time.Second, -4 * time.Second, 0} {
		var here time.Duration
		begin := time.Now()
		c := newWallClock(ttl)
		c.now = func() time.Duration { return here }
		for range 100 {
			if jump := c.take(here, here, begin.Add(here)); jump != 0 {
				t.Fatalf("it jumped by %s while it ran on", jump)
			}
			here += time.Second
		}
		if jump := c.take(here, here+11*time.Second, begin.Add(here+by)); jump != 0 {
			t.Errorf("a look that took 11 s says that it jumped by %s", jump)
		}
		want := by
		if by.Abs() <= ttl/12 {
			want = 0
		}
		if jump := c.take(here, here, begin.Add(here+by)); jump != want {
			t.Errorf("it jumped by %s: %s is told", by, jump)
		}
		if quiet := c.trusted().Before(begin.Add(here + by)); quiet != (want != 0) {
			t.Errorf("it jumped by %s: quiet: %v", by, quiet)
		}
	}
}
