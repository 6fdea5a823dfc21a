package process_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// watched is a process that need not be a child of ours.
type watched int

func watch(t *testing.T, pid string) watched {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(number, 0)
	if err != nil {
		t.Fatalf("watch process %d: %v", number, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return watched(fd)
}

// endsWithin waits for the end for so long.
func (w watched) endsWithin(d time.Duration) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w), Events: unix.POLLIN}}, int(d.Milliseconds()))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

func TestTerminateReachesChildren(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("as=parent", "stay"))
	child := watch(t, s.line("pid "))
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.exit(instance)
	child.ends(t)
}

func TestChildrenEndWithTheProcess(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if err := writeScript(s.root, "leave", "sleep 1000 & echo pid $!; read line; exit 4"); err != nil {
		t.Fatal(err)
	}
	spec := s.spec()
	spec.Executable = []byte(`{"command": ["leave"]}`)
	instance := s.start(spec)
	if exit := s.exit(instance); exit.Code != 4 {
		t.Fatalf("ended with %v", exit)
	}
	pid, err := strconv.Atoi(s.line("pid "))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it is gone, and reaped
	}
	defer unix.Close(fd)
	watched(fd).ends(t)
}

// I1: a child that has left the group and the session, and holds the output open, ends with
// the process, which it did not hold up.
func TestI1EscapedChildEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	eachPen(t, func(t *testing.T, cgroup string) {
		t.Helper()
		s := newStage(t, func(c *process.Config) { c.Cgroup = cgroup })
		instance := s.start(s.spec("as=parent", "setsid"))
		child := watch(t, s.line("pid "))
		if err := instance.Terminate(t.Context(), false); err != nil { // which does not reach the child
			t.Fatal(err)
		}
		if exit := s.exit(instance); exit.Code != 0 {
			t.Fatalf("ended with %v", exit)
		}
		if !child.endsWithin(0) {
			t.Fatal("the child lives")
		}
	})
}

// What a process has written is not lost when nobody has come to read it before the time for it is up.
func TestLastWordsAreReadHoweverLate(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *process.Config) { c.OutputGrace = time.Nanosecond })
	// The escaped child holds the output open, so its end is not what ends the reading.
	if err := writeScript(s.root, "leave", "setsid sleep 1000 & echo last words; exit 4"); err != nil {
		t.Fatal(err)
	}
	for range testkit.Sized(t, 20, 200) {
		spec := s.spec()
		spec.Executable = []byte(`{"command": ["leave"]}`)
		if exit := s.exit(s.start(spec)); exit.Code != 4 {
			t.Fatalf("ended with %v", exit)
		}
		var said []string
		for _, line := range s.rest() {
			said = append(said, line.Text)
		}
		if len(said) != 1 || said[0] != "last words" {
			t.Fatalf("said %q", said)
		}
	}
}

// I1: an agent that is killed leaves no process that goes on with its lease.
func TestI1AgentDeathKillsTheProcess(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	agent := exec.Command(filepath.Join(root, "helper"), "as=agent", root)
	output, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	if !lines.Scan() {
		t.Fatal("the agent said nothing")
	}
	process := watch(t, strings.TrimPrefix(lines.Text(), "pid "))
	process.lives(t)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	process.ends(t)
}
