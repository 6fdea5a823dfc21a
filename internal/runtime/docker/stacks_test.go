package docker_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/docker"
)

// I1: drones of one name that use one engine for two stacks do not find, take over or end each other's containers; and what a drone has left
// whose data directory is gone is found all the same.
func TestI1DronesOfOneNameInTwoStacksLeaveEachOthersContainers(t *testing.T) {
	t.Parallel()
	first := newStage(t, func(c *docker.Config) { c.Cluster = "one.test" })
	second := newStage(t, func(c *docker.Config) { c.Drone, c.Cluster = first.config.Drone, "two.test" })
	spec := first.spec("serve")
	instance := first.start(spec)
	first.line("ready")
	if ids := second.found(); len(ids) != 0 {
		t.Errorf("the other stack's drone finds %v", ids)
	}
	if exit := second.exit(second.adopt(spec, "")); exit.Message == "" {
		t.Errorf("the other stack's drone took it over: %v", exit)
	}
	first.config.StateDir = t.TempDir()
	first.reopen()
	if ids := first.found(); !slices.Equal(ids, []string{spec.BackendID}) {
		t.Errorf("its own drone finds %v", ids)
	}
	if again := first.adopt(spec, instance.Handle()); again.PID() != instance.PID() {
		t.Errorf("it is process %d, was %d", again.PID(), instance.PID())
	}
}
