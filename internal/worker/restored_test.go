package worker_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// I1, I6: a dump is restored under a worker and a drone that run on. Who asks for a key of which the holder was
// forgotten is refused and told why, until the drone has ended it; what the dump knows runs on, and what has ended
// since counts as running no longer than until the drone has said so.
func TestI1I6RestoreUnderAllThatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{ttl: testkit.Patience / 6})
	d := startDrone(t, w, "dr-a", w.url)
	kept, ended := awaitReady(t, w, "kept"), awaitReady(t, w, "ended")
	dump := filepath.Join(t.TempDir(), "dump")
	pgtest.Program(t, w.dsn, "pg_dump", "-Fc", "-f", dump)
	forgotten := awaitReady(t, w, "forgotten")
	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: ended.BackendID, Hard: true}); refusal != nil {
		t.Fatal(refusal)
	}
	testkit.Eventually(t, "it has ended", func() bool { return w.status(ended.BackendID).Status == messages.Terminated })

	pgtest.Restore(t, w.dsn, dump)
	refused := func() bool {
		resp, refusal := w.awaitConnect(w.sendConnect(spawnKey("forgotten"), testkit.Patience))
		if refusal == nil {
			t.Fatalf("who asks for the key of %s, which may run, gets %+v", forgotten.BackendID, resp)
		}
		return refusal.Kind == messages.Unavailable && strings.HasPrefix(refusal.Message, "the database was restored")
	}
	testkit.Eventually(t, "who asks for a key that may be held is told why he does not get it", refused)
	if _, refusal := w.awaitConnect(w.sendConnect(messages.ConnectRequest{Key: &messages.Key{Name: "forgotten"}}, testkit.Patience)); refusal == nil ||
		refusal.Kind != messages.Unavailable {
		t.Errorf("who asks for it and brings no spawn_config is told %v", refusal)
	}
	if got := w.connect(spawnKey("kept")); got.BackendID != kept.BackendID || got.Spawned {
		t.Errorf("who asks for the key of %s gets %+v", kept.BackendID, got)
	}
	testkit.Eventually(t, "the drone ends what was forgotten", func() bool {
		live := d.rt.Live()
		return len(live) == 1 && live[0].BackendID() == kept.BackendID
	})
	testkit.Eventually(t, "what has ended does not count as running", func() bool { return w.status(ended.BackendID).Status == messages.Terminated })
	testkit.Eventually(t, "a drone is there, and not given what other drones may hold", refused)
	if n := w.count("backend where status < 70"); n != 1 {
		t.Errorf("%d backends live", n)
	}
}
