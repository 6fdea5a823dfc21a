package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A lane that takes nothing is stuck once its requests have waited longer than any
// may take; one that is idle, or busy, never is.
func TestHealthLanesThatDoNotMoveAreStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLane("test", 4, 1, 1, func(context.Context, []*request) { <-release })
		want := func(stuck bool, when string) {
			t.Helper()
			synctest.Wait()
			if l.stuck() != stuck {
				t.Errorf("stuck is %t %s", !stuck, when)
			}
		}
		offer := func() { _ = l.offer(&request{arrived: time.Now()}) }
		l.start(t.Context())
		<-time.After(time.Hour)
		want(false, "with nothing to do")
		offer()
		<-time.After(time.Hour)
		want(false, "with nobody waiting")
		offer()
		want(false, "as soon as one waits")
		<-time.After(stuckAfter + time.Second)
		want(true, "with one waiting")
		release <- struct{}{}
		want(false, "after it has moved")
		release <- struct{}{}
		l.finish()
	})
}
