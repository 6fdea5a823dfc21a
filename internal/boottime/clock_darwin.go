package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// CLOCK_MONOTONIC also counts sleep on macOS, but is derived from the wall clock
// and the boot time, in microseconds, and can waver when either is set.
// CLOCK_MONOTONIC_RAW is mach_continuous_time: it counts sleep and nothing sets it.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		panic("boottime: read CLOCK_MONOTONIC_RAW: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
