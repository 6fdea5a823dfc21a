package process_test

import (
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
