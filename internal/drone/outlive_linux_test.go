package drone_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestI1I5ProcessesOutliveAKilledAgent(t *testing.T) {
	t.Parallel()
	s := newRealSite(t)
	first := s.run("")
	first.awaitLine("ready")
	for _, id := range []string{"b-1", "b-2"} {
		s.spawn(id, plays("serves"))
	}
	at1, at2 := address(s.await("b-1", messages.Ready)), address(s.await("b-2", messages.Ready))
	ws, pid := dial(t, "ws://"+at1+"/echo")
	first.kill()
	talk(t, ws, "while nobody looks after it")
	exit(t, at2, 7)

	s.run("").awaitLine("ready")
	talk(t, ws, "under the next agent")
	if got := s.registered(); len(got) != 2 || len(got[1].Backends) != 2 || got[1].Session == got[0].Session {
		t.Fatalf("registered %+v", got)
	}
	testkit.Eventually(t, "its lease is renewed", func() bool { return s.renews(1) })
	// What ended while nobody watched, and what ends now.
	if got := s.end("b-2"); got.Kind != "" || (got.ExitCode == nil || *got.ExitCode != 7) && !strings.Contains(got.Message, "exit") {
		t.Fatalf("ended as %+v", got)
	}
	_ = ws.CloseNow()
	exit(t, at1, 5)
	if got := s.end("b-1"); got.Kind != "" || got.Reason != "" || (got.ExitCode == nil || *got.ExitCode != 5) && !strings.Contains(got.Message, "exit") {
		t.Fatalf("%d ended as %+v", pid, got)
	}
	if !s.none() {
		t.Fatalf("%v run on", s.running())
	}
}

func TestI1PastTheHardDeadlineNoProcessOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]struct{ signal, up syscall.Signal }{
		"killed":  {syscall.SIGKILL, 0},
		"stopped": {syscall.SIGSTOP, syscall.SIGCONT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRealSite(t)
			// So long is waited for, and so late may renewals be: they never take a deadline back.
			ttl := (testkit.Patience / 20).Milliseconds()
			s.set(func() { s.softMS, s.hardMS = ttl, ttl })
			agent := s.run("")
			agent.awaitLine("ready")
			s.spawn("b-1", plays("deaf"))
			s.await("b-1", messages.Ready)
			var held journal.Lease
			testkit.Eventually(t, "its process is noted", func() bool {
				var state journal.State
				state, held = s.noted("b-1")
				return state.PID != 0
			})
			agent.signal(down.signal)
			s.awaitNone()
			if now := boottime.Now().Milliseconds(); now < held.HardAtMS {
				t.Fatalf("ended %d ms before the hard deadline", held.HardAtMS-now)
			}
			if down.up != 0 {
				agent.signal(down.up)
			} else {
				s.run("").awaitLine("ready")
			}
			// Ended by the guard: how is not said, but that it is is.
			s.end("b-1")
		})
	}
}

// I1: the guard ends what has cleared its environment and left its session, by its control group.
func TestI1NoChildOutlivesItsAgentPastTheHardDeadline(t *testing.T) {
	t.Parallel()
	s := newRealSite(t)
	ttl := (testkit.Patience / 20).Milliseconds()
	s.set(func() { s.softMS, s.hardMS = ttl, ttl })
	said := make(chan *nats.Msg, 16)
	if _, err := s.nc.ChanSubscribe(messages.LogSubject("b-1"), said); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	agent := s.run("")
	agent.awaitLine("ready")
	s.spawn("b-1", plays("begets"))
	s.await("b-1", messages.Ready)
	var line messages.LogLine
	if err := json.Unmarshal(testkit.Receive(t, said, "it says who its child is").Data, &line); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(strings.TrimPrefix(line.Line, "child "), &pid); err != nil {
		t.Fatal(line, err)
	}
	id, err := procs.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	child, err := procs.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	defer func() { _ = child.Signal(syscall.SIGKILL) }()
	var state journal.State
	var held journal.Lease
	testkit.Eventually(t, "its process is noted", func() bool {
		state, held = s.noted("b-1")
		return state.PID != 0
	})
	if state.Group == "" {
		testkit.LeaveOut(t, "tests of control groups", "run as root, or in a unit with Delegate=yes")
	}
	agent.signal(syscall.SIGKILL)
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	if err := testkit.Receive(t, ended, "the child ends"); err != nil {
		t.Fatal(err)
	}
	if now := boottime.Now().Milliseconds(); now < held.HardAtMS {
		t.Errorf("ended %d ms before the hard deadline", held.HardAtMS-now)
	}
	s.awaitNone()
	s.run("").awaitLine("ready")
	s.end("b-1")
}

// Wherever the agent dies, a spawn takes effect once: it is started at most once, and if
// it is not its end is reported.
func TestI3SpawnTakesEffectOnceWhereverTheAgentDies(t *testing.T) {
	t.Parallel()
	for crash, c := range map[string]struct {
		runs   bool
		reason messages.TerminationReason
	}{
		"prepare": {},                                   // before or after it was journalled
		"start":   {reason: messages.ReasonStartFailed}, // it may have been started, so it is not again
		"started": {runs: true},                         // before that was noted
	} {
		t.Run(crash, func(t *testing.T) {
			t.Parallel()
			s := newRealSite(t)
			first := s.run(crash)
			first.awaitLine("ready")
			action := s.spawn("b-1", plays("serves"))
			_ = first.wait() // it kills itself
			before := s.running()
			if c.runs != (len(before) == 1) {
				t.Fatalf("%v run", before)
			}
			s.run("").awaitLine("ready")
			s.publish(messages.Encode(action)) // as workers do when a drone registers
			states := s.await("b-1", messages.Ready)
			switch last := states[len(states)-1]; {
			case c.runs:
				if _, pid := dial(t, "ws://"+last.Address+"/echo"); !slices.Contains(before, pid) {
					t.Fatalf("%d runs, not %v", pid, before)
				}
			case c.reason != "":
				if last.Status != messages.Terminated || last.Reason != c.reason {
					t.Fatalf("states %+v", states)
				}
			case last.Status == messages.Ready: // it was journalled
			default: // it was not, and is of an earlier session
				if last.Reason != messages.ReasonLost {
					t.Fatalf("states %+v", states)
				}
			}
			// Delivered once more, it changes nothing. Actions are taken in order.
			s.publish(messages.Encode(action))
			s.spawn("b-2", plays("serves"))
			s.await("b-2", messages.Ready)
			s.terminate("b-2", true)
			s.end("b-2")
			if last := states[len(states)-1]; (last.Status == messages.Ready) != (len(s.running()) == 1) {
				t.Fatalf("%v run after %+v", s.running(), states)
			}
		})
	}
}
