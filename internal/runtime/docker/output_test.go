package docker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
)

// I8: a gigabyte of output costs neither memory nor disk nor the backend's time, and
// what is left out is said.
func TestI8FloodIsBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.LogLines, c.LogBytes = 100, 32<<10 })
	megabytes := 1024
	if testing.Short() {
		megabytes = 64
	}
	instance := s.start(s.spec(fmt.Sprintf("flood %d", megabytes)))
	select {
	case <-instance.Done():
	case <-t.Context().Done():
	}
	if exit := instance.Exit(); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	passed, told := 0, false
	for _, line := range s.rest() {
		switch line.Stream {
		case runtime.Stdout:
			passed++
		case runtime.Notice:
			told = told || strings.Contains(line.Text, "were dropped")
		}
	}
	if passed == 0 || passed > 100_000 || !told {
		t.Errorf("%d lines were passed on, and that some were dropped was told: %v", passed, told)
	}
}

func TestNoticeComesWhileTheContainerIsSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.LogLines = 1 })
	s.start(s.spec("two"))
	s.line("1 lines (8 bytes) of stdout were dropped")
}

// A log driver that cannot be read is said, and is no reason not to run.
func TestUnreadableLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.LogDriver = "none" })
	instance := s.start(s.spec("serve"))
	s.line("the output cannot be followed")
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
}
