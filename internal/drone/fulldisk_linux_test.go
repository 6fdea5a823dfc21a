package drone_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: an agent that is started while its disk is full takes over what runs, takes nothing
// more, and says so, until there is room.
func TestAgentStartedOnAFullDiskKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, 8<<20, 500)
	s := newRealSiteIn(t, dir)
	first := s.run("")
	first.awaitLine("ready")
	s.spawn("b-1", plays("serves"))
	ws, _ := dial(t, "ws://"+address(s.await("b-1", messages.Ready))+"/echo")
	first.kill()
	s.set(func() { s.heartbeats = nil }) // those that follow are the next one's
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}

	s.run("")
	testkit.Eventually(t, "it is taken over", func() bool {
		got := s.registered()
		return len(got) == 2 && slices.Equal(got[1].Backends, []string{"b-1"}) && s.renews(1)
	})
	talk(t, ws, "under the next agent")
	testkit.Eventually(t, "it takes spawns, not knowing better", func() bool { return s.lastHeartbeat().Ready })
	s.refuses("b-2", "b-3")
	talk(t, ws, "on a full disk")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it takes spawns again", func() bool { return s.lastHeartbeat().Ready })
	s.spawn("b-4", plays("serves"))
	s.await("b-4", messages.Ready)
	talk(t, ws, "with room again")
}

// refuses sees that a journal that is full takes no spawn: a large one finds out, and is refused at
// once, for others to take.
func (s *realSite) refuses(large, other string) {
	s.t.Helper()
	env := map[string]string{"TEST_BACKEND": "serves"}
	for i := range 4 {
		env[fmt.Sprint("PAD", i)] = strings.Repeat("x", 28<<10)
	}
	s.spawn(large, messages.Encode(map[string]any{"command": []string{"backend"}, "env": env}))
	for _, id := range []string{large, other} {
		if got := s.end(id); got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, "journal cannot be written") {
			s.t.Fatalf("%s ended as %+v", id, got)
		}
		s.set(func() {
			if !s.refused[id] || len(s.states[id]) != 1 {
				s.t.Errorf("%s may not be placed elsewhere: %v", id, s.states[id])
			}
		})
		if id == large {
			testkit.Eventually(s.t, "the workers hear of it", func() bool { return !s.lastHeartbeat().Ready })
			s.spawn(other, plays("serves"))
		}
	}
}

func TestFullDiskRefusesSpawnsAndKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	s := newRealSite(t)
	agent := s.run("")
	agent.awaitLine("ready")
	s.spawn("b-1", plays("serves"))
	at := address(s.await("b-1", messages.Ready))
	s.spawn("b-0", plays("serves"))
	s.await("b-0", messages.Ready)
	testkit.Eventually(t, "it takes spawns", func() bool { return s.lastHeartbeat().Ready })

	agent.signal(syscall.SIGUSR1)
	agent.awaitLine("limited")
	s.refuses("b-2", "b-3")
	exit(t, at, 3)
	before := s.lastHeartbeat().DroneTimeMS
	testkit.Eventually(t, "its leases are renewed", func() bool {
		last := s.lastHeartbeat()
		return last.DroneTimeMS > before && last.Load.Backends == 1
	})
	if got := s.end("b-1"); got.ExitCode == nil || *got.ExitCode != 3 {
		t.Fatalf("ended as %+v", got)
	}

	agent.signal(syscall.SIGUSR2)
	agent.awaitLine("limited")
	testkit.Eventually(t, "it takes spawns again", func() bool { return s.lastHeartbeat().Ready })
	s.spawn("b-4", plays("serves"))
	s.await("b-4", messages.Ready)
	s.settled()
	for _, id := range []string{"b-0", "b-4"} {
		s.terminate(id, true)
		s.end(id)
	}
}
