package outbox

import (
	"testing"
	"time"
)

// I8: looking for what was left behind takes a bounded part of the time, however long one look takes.
func TestI8LooksThatTakeLongComeLessOften(t *testing.T) {
	const every = 2 * time.Second
	for took, want := range map[time.Duration]time.Duration{
		0: every, 5 * time.Millisecond: every, 500 * time.Millisecond: 9500 * time.Millisecond, time.Hour: time.Minute,
	} {
		if got := rest(every, took); got != want {
			t.Errorf("after %s it rests %s, want %s", took, got, want)
		}
	}
}
