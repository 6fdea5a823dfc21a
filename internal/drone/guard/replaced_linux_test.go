package guard

import (
	"os"
	"testing"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/messages"
)

// I1: an operator stops the agent, which leaves its backends running, and restores the data directory from a backup, or
// removes it. The next agent knows nothing of the backends, nor does its guard: the one that does ends them in time.
func TestI1GuardEndsWhatAReplacedDirectoryDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	backend, _ := run(t, "b", droneOf(s.dir))
	s.put("b", backend.ID)
	s.renew(40, 50)
	s.look(10)
	if err := s.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.journal = reopen(t, s.dir)
	if err := put(s.journal, "other", journal.State{Status: messages.Ready}); err != nil {
		t.Fatal(err)
	}
	s.renew(1040, 1050)
	if _, needed := s.look(49); !needed || len(s.reader.Left) != 1 {
		t.Fatalf("needed %v, for %v", needed, s.reader.Left)
	}
	backend.lives()
	s.lookUntilDone(50)
	backend.ends()
	if len(s.reader.Left) != 0 {
		t.Fatalf("it still looks after %v", s.reader.Left)
	}
}
