package boottime_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNowOnlyGoesForward(t *testing.T) {
	t.Parallel()
	last := boottime.Now()
	for range 10_000 {
		next := boottime.Now()
		if next < last {
			t.Fatalf("the clock went back from %v to %v", last, next)
		}
		last = next
	}
}

func TestNowIsTheTimeSinceBoot(t *testing.T) {
	t.Parallel()
	// The first number of /proc/uptime is CLOCK_BOOTTIME, cut to hundredths.
	before := boottime.Now()
	text, err := os.ReadFile("/proc/uptime")
	if errors.Is(err, os.ErrNotExist) {
		testkit.LeaveOut(t, "the test of the time since boot takes /proc/uptime", "run it on Linux")
	}
	if err != nil {
		t.Fatal(err)
	}
	after := boottime.Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	// Some sandboxed kernels count uptime from the sandbox's start; then the
	// two differ by a constant and there is nothing to compare.
	uptime := time.Duration(seconds * float64(time.Second))
	if slack := 50 * time.Millisecond; uptime < before-slack || uptime > after+slack {
		t.Logf("uptime %v is not between %v and %v", uptime, before, after)
		testkit.LeaveOut(t, "the test of the time since boot takes a kernel whose /proc/uptime counts from there", "run it outside of the sandbox")
	}
}

func TestNapIsWithinBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "at"))
		deadline := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "deadline"))
		clock := boottime.Clock(func() time.Duration { return at })
		nap := clock.Nap(deadline)
		switch {
		case nap < 0 || nap > boottime.MaxNap:
			t.Fatalf("nap %v is out of bounds", nap)
		case (nap == 0) != (deadline <= at):
			t.Fatalf("nap %v at %v with deadline %v", nap, at, deadline)
		case nap > 0 && at+nap > deadline:
			t.Fatalf("nap %v sleeps past the deadline %v", nap, deadline)
		}
	})
}

// bubbleClock follows the fake time of a synctest bubble.
func bubbleClock() boottime.Clock {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

func TestWaitEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := bubbleClock()
		deadline := 3*time.Second + 250*time.Millisecond
		if err := clock.Wait(t.Context(), deadline); err != nil {
			t.Fatal(err)
		}
		if got := clock(); got != deadline {
			t.Fatalf("woke at %v, want %v", got, deadline)
		}
	})
}

func TestWaitNoticesASuspend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A suspend is a jump of this clock that Go's timers do not see.
		var slept atomic.Int64
		bubble := bubbleClock()
		clock := boottime.Clock(func() time.Duration { return bubble() + time.Duration(slept.Load()) })

		done := make(chan error, 1)
		go func() { done <- clock.Wait(t.Context(), time.Hour) }()
		synctest.Wait()
		slept.Store(int64(2 * time.Hour))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if woke := bubble(); woke > boottime.MaxNap {
			t.Fatalf("noticed the passed deadline only after %v", woke)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := bubbleClock()
		cause := errors.New("the drone is closing")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- clock.Wait(ctx, time.Hour) }()
		synctest.Wait()
		cancel(cause)
		if err := <-done; !errors.Is(err, cause) {
			t.Fatalf("got %v, want %v", err, cause)
		}
		if err := clock.Wait(ctx, 0); err != nil {
			t.Fatalf("a passed deadline gave %v", err)
		}
	})
}

func TestOffset(t *testing.T) {
	t.Parallel()
	fixed := boottime.Clock(func() time.Duration { return time.Minute })
	if got := fixed.Offset(-time.Second)(); got != 59*time.Second {
		t.Fatalf("got %v", got)
	}
	if got := fixed.Offset(time.Second)(); got != 61*time.Second {
		t.Fatalf("got %v", got)
	}
}
