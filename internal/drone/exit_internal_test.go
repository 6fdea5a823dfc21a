package drone

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// How long an end may take is for the tests of how it goes, which are not to be late for it.
func init() { hurryTimeout = testkit.Patience }

// The end of a run waits for workers as long as they take something, however slowly, and not much
// longer.
func TestEndIsToldAsLongAsWorkersTakeSomething(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &agent{fatal: make(chan error, 1)}
		a.reports = newReporter(a)
		take := func(each time.Duration, n int) {
			go func() {
				for range n {
					time.Sleep(each)
					a.reports.answered(1)
				}
			}()
		}
		const states, slow = 20, reportPatience - time.Millisecond
		for n := range states {
			a.reports.add(messages.Report{BackendID: fmt.Sprintf("b-%d", n), State: messages.State{Status: messages.Terminated}}, 0)
		}
		began := time.Now()
		take(slow, states-2)
		if left := a.flushReports(t.Context()); left != 2 {
			t.Fatalf("%d are left", left)
		}
		if took := time.Since(began); took < (states-2)*slow || took > (states-2)*slow+2*reportPatience {
			t.Fatalf("gave up after %v", took)
		}
		take(slow, 1)
		ctx, cancel := context.WithTimeout(t.Context(), slow+time.Second)
		defer cancel()
		if left := a.flushReports(ctx); left != 1 || ctx.Err() == nil {
			t.Fatalf("%d are left, %v", left, ctx.Err())
		}
		began = time.Now()
		a.fatal <- errors.New("connection closed")
		if left := a.flushReports(t.Context()); left != 1 || time.Since(began) != 0 {
			t.Fatalf("%d are left after %v", left, time.Since(began))
		}
		take(slow, 1)
		if left := a.flushReports(t.Context()); left != 0 || time.Since(began) != slow {
			t.Fatalf("%d are left after %v", left, time.Since(began))
		}
	})
}
