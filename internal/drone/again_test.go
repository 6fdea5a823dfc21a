package drone_test

import (
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I6: a database that has lost its last commits does not know that a backend has ended, which
// its drone has said, and has it terminated. Without another word the row would stay for ever.
func TestI6EndIsSaidAgainToWhoAsksForIt(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.terminate("b-1", false)
	h.end("b-1")
	h.settled()
	h.set(func() { delete(h.states, "b-1") })
	// Workers order it until they are told: the drone may not have had the answer to its first report yet, and passes
	// over an order that comes before.
	testkit.Eventually(t, "the drone says again that it has ended", func() bool {
		h.terminate("b-1", true)
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.states["b-1"]) > 0
	})
	h.end("b-1")
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run after the end", n)
	}
}
