package docker_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// I8: a gigabyte of output costs no more than little of it, in lines and on the disk,
// and what is left out is said. It takes Docker half a minute of processor time: in small
// it is less than that, still more than what the disk may keep.
func TestI8FloodIsBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) {
		c.LogLines, c.LogBytes, c.RemoveAfter = 100, 32<<10, time.Hour
	})
	began := time.Now()
	instance := s.start(s.spec(fmt.Sprintf("flood %d", testkit.Sized(t, 40, 1024))))
	<-instance.Done()
	seconds := int(time.Since(began)/time.Second) + 2
	if exit := instance.Exit(); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	passed, told := 0, false
	for _, line := range s.rest() {
		switch line.Stream {
		case runtime.Stdout:
			passed += len(line.Text)
		case runtime.Notice:
			told = told || strings.Contains(line.Text, "were dropped")
		}
	}
	if passed == 0 || passed > seconds*(32+16)<<10 || // and a tail
		!told {
		t.Errorf("%d bytes were passed on in %d s, and that some were dropped was told: %v", passed, seconds, told)
	}
	var kept int64
	logs, err := filepath.Glob(s.inspect(instance).LogPath + "*")
	if err != nil || len(logs) == 0 && os.Geteuid() == 0 {
		t.Fatalf("no log: %v", err)
	}
	for _, log := range logs {
		info, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		kept += info.Size()
	}
	if kept > 25<<20 {
		t.Errorf("%d bytes are on the disk", kept)
	}
}

func TestLastLinesComeWhileTheContainerIsSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.LogLines = 1 })
	s.start(s.spec("two"))
	s.line("line two")
}

// A log driver that cannot be read is said, and is no reason not to run.
func TestUnreadableLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.LogDriver = "none" })
	instance := s.start(s.spec("serve"))
	s.line("the output cannot be followed")
	testkit.Eventually(t, "it listens, and hears what it is told", func() bool {
		// An answer is the program's own: the engine's proxy takes connections to the port before the program listens.
		resp, err := http.Get("http://" + instance.Address())
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
}
