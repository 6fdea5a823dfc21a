package store

import (
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/mutant"
)

// wallClock compares the database's clock with this machine's, which never steps. The
// database's clock alone decides what has expired; but when it steps forward, as NTP makes
// it after a pause, it would decide so of all at once, while their processes run (I1). So
// each statement that judges is told past which time it must not: [wallClock.trusted].
//
// A look takes its time, the longer the farther away the database is, and it read its clock at an unknown moment of
// that. So what a look says is an interval; where that is long, the database is trusted less far, and after a sixth of a lease's
// time, in which no drone could renew either, the look says nothing.
//
// After a jump nothing counts as expired for as long as a lease lives, in which every
// drone that is there renews.
type wallClock struct {
	now func() time.Duration // since boot

	mu    sync.Mutex
	ttl   time.Duration
	live  time.Duration // how long leases live of which some were given before the time to live was lowered
	looks []look        // of the last ttl, the oldest first
	quiet time.Duration
}

// look is what both clocks said at one time.
type look struct {
	here time.Duration // before the look
	took time.Duration
	then time.Time
}

// least and most are by how much the database's clock is ahead of ours, from an epoch of its own.
func (l look) least(epoch time.Time) time.Duration { return l.then.Sub(epoch) - l.here - l.took }
func (l look) most(epoch time.Time) time.Duration  { return l.then.Sub(epoch) - l.here }

func newWallClock(ttl time.Duration) *wallClock {
	return &wallClock{now: boottime.Now, ttl: ttl, live: ttl}
}

// margin is how far the clocks may come apart while a lease lives: half of what lies between
// a drone's hard deadline and its lease's end.
func (c *wallClock) margin() time.Duration { return c.ttl / 12 }

// take notes what the database's clock said while this machine's went from before to
// after. It gives by how much the database's has jumped, or 0.
func (c *wallClock) take(before, after time.Duration, then time.Time) (jump time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := look{before, after - before, then}
	if newest.took > 2*c.margin() {
		return 0 // it says too little
	}
	for len(c.looks) > 1 && newest.here-c.looks[1].here >= c.live {
		c.looks = c.looks[1:]
	}
	if len(c.looks) == 0 {
		c.looks = []look{newest}
		return 0
	}
	oldest := c.looks[0]
	// What it has jumped by at least.
	if forth := newest.least(oldest.then) - oldest.most(oldest.then); forth > c.margin() {
		jump = forth
	}
	if back := newest.most(oldest.then) - oldest.least(oldest.then); back < -c.margin() {
		jump = back
	}
	if jump != 0 {
		c.looks, c.quiet = []look{newest}, after+c.live
		return jump
	}
	if last := c.looks[len(c.looks)-1]; newest.here-last.here >= c.margin() {
		c.looks = append(c.looks, newest)
	}
	return 0
}

// trusted gives the time of the database up to which it may judge now what has expired. The
// zero time, before all others, lets nothing count as expired: nobody has looked at the clock
// yet, or it has jumped.
func (c *wallClock) trusted() time.Time {
	if mutant.On(mutant.ClockBelieved) {
		return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.looks) == 0 || now < c.quiet {
		return time.Time{}
	}
	// The clock was read later than before the look, by as much as the way there takes, which a statement takes as
	// well: that is why it comes in time. Where looks differ, it may be trusted by one that went slowly for one that
	// goes fast: together with the margin that is never more than a sixth of a lease's time, as drones leave.
	oldest := c.looks[0]
	return oldest.then.Add(now - oldest.here + c.margin() - max(0, oldest.took-c.margin()))
}

// looked says whether anybody has looked at the clock.
func (c *wallClock) looked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.looks) > 0
}

// distrust has nothing count as expired for as long as a lease lives.
func (c *wallClock) distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = c.now() + c.live
}

// lives is how long any lease lives, as of the last look.
func (c *wallClock) lives() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

// set changes how long leases live that are given now, and how long any does.
func (c *wallClock) set(ttl, live time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ttl, c.live = ttl, live
}
