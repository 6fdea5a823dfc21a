package worker_test

import (
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I3: who asks for a key at once after its backend was asked to end never gets that one: the request waits for its
// end, and spawns the next. While the drone does not act, it is refused at its deadline.
// Found by terminate and connect at once: 8 of 10 joined what was to end, for 79 s where the drone did nothing.
func TestI3ConnectAfterTerminateNeverJoinsWhatIsToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	next := w.connect(spawnKey("doc"))
	for round := range testkit.Sized(t, 6, 40) {
		ends := next.BackendID
		if p.awaitAction(ends, messages.SpawnID(ends)); round%3 != 0 {
			p.report(ends, messages.Ready)
		}
		if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: ends, Hard: round%2 == 0}); refusal != nil {
			t.Fatal(refusal)
		}
		waits := w.sendConnect(spawnKey("doc"), testkit.Patience)
		w.refusedWhileLeaving("doc")
		select {
		case msg := <-waits:
			t.Fatalf("round %d: answered before the backend had ended: %s", round, msg.Data)
		default:
		}
		p.report(ends, messages.Terminated)
		got, refusal := w.awaitConnect(waits)
		if refusal != nil || !got.Spawned || got.BackendID == ends {
			t.Fatalf("round %d: after its end, who asks for the key gets %+v, %v", round, got, refusal)
		}
		next = got
	}
}
