package process_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// I1: what another drone of the same name runs on this machine, for another stack or in another
// namespace, is not this one's to find or to end.
func TestI1DroneOfTheSameNameIsAnotherOne(t *testing.T) {
	t.Parallel()
	first := newHeir(t)
	orphan := first.orphan(t)
	second := &heir{config: first.config, id: first.id}
	second.config.StateDir = filepath.Join(t.TempDir(), "state")
	found, err := second.open(t).Find(t.Context())
	if err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
	testkit.Receive(t, second.adopt(t, "").Done(), "of a backend with that id nothing runs here")
	orphan.lives(t)
	if found, err = first.open(t).Find(t.Context()); err != nil || !slices.Equal(found, []string{first.id}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// I1: an operator removes the drone's data directory, or puts a backup in its place, while no agent runs and processes that one
// left do. Nobody will look after them any more but the next agent of that name, which finds them.
// Found by doing it: they ran on for ever, beside their successors.
func TestI1ProcessesOfADirectoryThatIsGoneAreFound(t *testing.T) {
	t.Parallel()
	for _, restored := range []bool{true, false} {
		h := newHeir(t)
		orphan := h.orphan(t)
		next := &heir{config: h.config, id: h.id}
		if err := os.Rename(h.config.StateDir, h.config.StateDir+".away"); err != nil {
			t.Fatal(err)
		}
		if restored {
			if err := os.Mkdir(h.config.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
		} else {
			next.config.StateDir = filepath.Join(t.TempDir(), "elsewhere")
		}
		found, err := next.open(t).Find(t.Context())
		if err != nil || !slices.Equal(found, []string{h.id}) {
			t.Fatalf("found %v, %v", found, err)
		}
		instance := next.adopt(t, "")
		if err := instance.Terminate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, instance.Done(), "nothing of it runs")
		orphan.ends(t)
	}
}
