package docker_test

import (
	"testing"

	"github.com/moby/moby/client"
)

// I1: a container that is paused ends when it is told to, softly or hard.
func TestPausedContainersEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for hard, want := range map[bool]int{false: 0, true: 137} {
		instance := s.start(s.spec("quiet"))
		s.line("ready")
		_, err := s.engine.ContainerPause(t.Context(), instance.Handle(), client.ContainerPauseOptions{})
		if (err != nil) != s.isBoundless() { // it can pause nothing either
			t.Fatal(err)
		}
		if err := instance.Terminate(t.Context(), hard); err != nil {
			t.Fatal(err)
		}
		if exit := s.exit(instance); exit.Code != want {
			t.Errorf("hard %v: ended with %v", hard, exit)
		}
	}
}
