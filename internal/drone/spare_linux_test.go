package drone_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// awaitRunning waits until so many processes of the site run.
func (s *realSite) awaitRunning(n int) {
	s.t.Helper()
	s.t.Cleanup(func() {
		for _, pid := range s.running() {
			if s.t.Failed() {
				env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				s.t.Logf("process %d runs with %q", pid, env)
			}
		}
	})
	testkit.Eventually(s.t, strconv.Itoa(n)+" processes run", func() bool { return len(s.running()) == n })
}

// An agent that dies leaves spares, which the next one ends, and a claimed one, which it adopts.
func TestI1ClaimedSpareOutlivesAKilledAgentAndOthersDoNot(t *testing.T) {
	t.Parallel()
	s := newRealSite(t)
	agent := s.run("")
	agent.awaitLine("ready")
	s.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 1})
	s.hub.spares("room", "one is ready", readySpares(1))
	s.spawn("b1", nil, s.of("room"))
	pid := at(t, address(s.await("b1", messages.Ready))).Get("X-Pid")
	s.hub.spares("room", "another one is ready", readySpares(1))
	agent.kill()
	s.put() // no spares are wanted any more
	next := s.run("")
	next.awaitLine("ready")
	s.awaitRunning(1)
	if got := at(t, address(s.await("b1", messages.Ready))).Get("X-Pid"); got != pid {
		t.Errorf("process %s is the backend, it was %s", got, pid)
	}
	// One that stops in order leaves none.
	s.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 1})
	s.hub.spares("room", "one is ready", readySpares(1))
	next.signal(syscall.SIGTERM)
	if err := next.wait(); err != nil {
		t.Error(err)
	}
	s.awaitRunning(1)
	s.put()
	s.run("").awaitLine("ready")
	s.terminate("b1", false)
	s.end("b1")
	s.awaitNone()
}

// Wherever in a claim the agent dies, the backend is there again, and nothing else that may believe to be it.
func TestI1WhereverTheAgentDiesInAClaimOneProcessIsTheBackend(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"claim", "kills", "kills-then-takes"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s := newRealSite(t)
			crash := ""
			if where == "claim" {
				crash = where
			}
			agent := s.run(crash)
			agent.awaitLine("ready")
			s.put(messages.Template{Name: "room", Executable: claimable(where), Spares: 1})
			s.hub.spares("room", "one is ready", readySpares(1))
			s.spawn("b1", nil, s.of("room"))
			if err := agent.wait(); err == nil {
				t.Fatal("the agent did not die")
			}
			s.put()
			s.run("").awaitLine("ready")
			states := s.await("b1", messages.Ready)
			s.awaitRunning(1)
			told := at(t, address(states))
			if told.Get("X-Key") != "doc-b1" {
				t.Errorf("it was not started for its key: %v", told)
			}
			s.terminate("b1", true)
			s.end("b1")
			s.awaitNone()
		})
	}
}

// A backend that was a spare is ended at the hard deadline of its lease by the guard, while the agent is dead or stopped.
func TestI1ClaimedSpareIsDeadByItsHardDeadline(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRealSite(t)
			ttl := (testkit.Patience / 20).Milliseconds()
			s.set(func() { s.softMS, s.hardMS = ttl, ttl })
			agent := s.run("")
			agent.awaitLine("ready")
			s.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 1})
			s.hub.spares("room", "one is ready", readySpares(1))
			s.spawn("b-1", nil, s.of("room"))
			s.await("b-1", messages.Ready)
			s.put() // a spare that nobody has claimed is the next agent's to end: until this is heard, one may be begun in the claimed one's place
			testkit.Eventually(t, "no spares are kept any more", func() bool { return len(s.lastHeartbeat().Spares) == 0 })
			s.awaitRunning(1)
			agent.signal(down)
			s.awaitNone()
			if state, _ := s.noted("b-1"); state.Spare == "" {
				t.Errorf("the journal says of it %+v", state)
			}
		})
	}
}

// mostPerSpare is what an idle spare may cost its agent, in bytes of resident memory.
const mostPerSpare = 16 << 10

// I8: how the resident memory of an agent grows with spares that nobody has claimed.
func TestI8MemoryOfManySparesIsLittle(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	c := newCrowd(t)
	c.config.GCPercent = 25
	c.begin()
	c.growTo(1) // settledRSS goes by what is said of backends
	keep := func(n int) {
		c.put(messages.Template{Name: "room", Executable: messages.Encode(map[string]any{"command": []string{"listener"}}), Spares: n})
		c.hub.spares("room", "all are ready", readySpares(n))
	}
	const first, count = 60, 500
	keep(first)
	before := c.settledRSS()
	keep(first + count)
	cost := (c.settledRSS() - before) / count
	t.Logf("an idle spare costs its agent %d bytes of resident memory", cost)
	if cost > mostPerSpare {
		t.Errorf("at most %d are allowed", mostPerSpare)
	}
	c.put()
	testkit.Eventually(t, "all spares have ended", func() bool { return len(c.running()) == 1 })
	c.end()
}
