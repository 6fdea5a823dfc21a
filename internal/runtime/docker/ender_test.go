package docker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// I1: who guards a drone ends its containers by the engine, which needs no right to signal their
// processes: those of the backends named, and no others.
func TestI1GuardEndsContainersByTheEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec, other := s.spec("serve"), s.spec("serve")
	first, second := s.start(spec), s.start(other)
	ender, err := docker.NewEnder(s.config.Engine)
	if err != nil {
		t.Fatal(err)
	}
	defer ender.Close()
	ctx := testkit.Context(t)
	if err := ender.Able(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := ender.End(ctx, "dr-another", map[string]string{spec.BackendID: ""}); err != nil || len(left) > 0 {
		t.Fatalf("another drone's: %v, %v", left, err)
	}
	left, err := ender.End(ctx, s.config.Drone, map[string]string{spec.BackendID: "", "b-none": ""})
	if err != nil || !slices.Equal(left, []string{spec.BackendID}) {
		t.Fatalf("it ran: %v, %v", left, err)
	}
	testkit.Receive(t, first.Done(), "its end")
	if left, err := ender.End(ctx, s.config.Drone, map[string]string{spec.BackendID: ""}); err != nil || len(left) > 0 {
		t.Fatalf("after its end: %v, %v", left, err)
	}
	select {
	case <-second.Done():
		t.Error("the other one has ended too")
	default:
	}
}

// Two stacks that use one engine, whose drones and backends have the same names: the guard of one leaves the containers of the other alone, and ends
// those that say no cluster, as an earlier build started them.
func TestGuardLeavesContainersOfAnotherStackAlone(t *testing.T) {
	t.Parallel()
	for own, ends := range map[string]bool{"a.test": true, "": true, "b.test": false} {
		s := newStage(t, func(c *docker.Config) { c.Cluster = own })
		spec := s.spec("serve")
		instance := s.start(spec)
		ender, err := docker.NewEnder(s.config.Engine)
		if err != nil {
			t.Fatal(err)
		}
		left, err := ender.End(testkit.Context(t), s.config.Drone, map[string]string{spec.BackendID: "a.test"})
		if err != nil || slices.Equal(left, []string{spec.BackendID}) != ends {
			t.Errorf("of a container of cluster %q the guard of a.test ended %v, %v", own, left, err)
		}
		if runtime.Over(instance.Done()) && !ends {
			t.Errorf("the container of cluster %q has ended", own)
		}
		if err := ender.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A guard whose engine does not answer says so.
func TestEnderSaysThatTheEngineIsAway(t *testing.T) {
	t.Parallel()
	ender, err := docker.NewEnder("unix://" + t.TempDir() + "/none.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer ender.Close()
	if err := ender.Able(t.Context()); err == nil || !strings.Contains(err.Error(), "none.sock") {
		t.Errorf("it is able: %v", err)
	}
	if left, err := ender.End(t.Context(), "dr-a", map[string]string{"b": ""}); err == nil || slices.Contains(left, "b") {
		t.Errorf("it knows what runs: %v, %v", left, err)
	}
}
