// Package boottime owns the one clock that a drone judges its leases by: the
// time since this machine was booted, including the time that it was suspended;
// and the id of that boot.
//
// What holds:
//
//   - The clock never steps. Setting the wall clock, NTP and leap seconds do not
//     move it. It goes on while the machine sleeps, so a lease that ran out
//     during a suspend is seen as run out (I1 hangs on this).
//   - A reading means something on this machine and in this boot only. It is sent
//     to a worker as an opaque number that comes back in the reply; it is never
//     compared with a reading of another machine. Which boot this is, [BootID] says.
//   - Go's own timers are not enough: they stand still during a suspend, and a
//     timer that came due while the process was stopped fires late. [Clock.Wait]
//     and [Clock.Nap] look at the clock again at least once per [MaxNap].
//
// The package starts no goroutines and holds no state; there is nothing to close.
package boottime

import (
	"context"
	"time"
)

// MaxNap is the longest time that a wait goes without looking at the clock. It
// bounds how late, after a suspend, a passed deadline is noticed.
const MaxNap = time.Second

// Clock reads the time since boot. [Now] is the real one; a test injects its
// own, for example one that it moves by hand or [Clock.Offset].
type Clock func() time.Duration

// Now returns the time since boot, including suspend: CLOCK_BOOTTIME on Linux,
// CLOCK_MONOTONIC_RAW on macOS (which reads mach_continuous_time). It panics when
// the kernel does not have that clock: a drone without it cannot keep I1.
func Now() time.Duration { return now() }

// Offset returns a clock that is ahead of c by d (behind it if d is negative).
func (c Clock) Offset(d time.Duration) Clock {
	return func() time.Duration { return c() + d }
}

// Nap returns how long a loop with a timer of its own may sleep before it has to
// look at the clock again: the time left until the deadline, at most [MaxNap],
// and 0 once the deadline has come.
func (c Clock) Nap(deadline time.Duration) time.Duration {
	return min(max(deadline-c(), 0), MaxNap)
}

// Wait returns nil once c has reached the deadline, or the cause of ctx's end if
// that comes first. A deadline that has passed returns nil at once, also with an
// ended ctx: the deadline is the stronger fact.
func (c Clock) Wait(ctx context.Context, deadline time.Duration) error {
	nap := c.Nap(deadline)
	if nap == 0 {
		return nil
	}
	timer := time.NewTimer(nap)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		if nap = c.Nap(deadline); nap == 0 {
			return nil
		}
		timer.Reset(nap)
	}
}
