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
	if !child.endsWithin(patience) {
		t.Fatal("the child lives")
	}
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
	if !watched(fd).endsWithin(patience) {
		t.Fatal("the child lives")
	}
}

func TestEscapedChildDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *process.Config) { c.OutputGrace = 3 * time.Second })
	instance := s.start(s.spec("as=parent", "setsid"))
	pid := s.line("pid ")
	child := watch(t, pid)
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	number, _ := strconv.Atoi(pid)
	if child.endsWithin(0) {
		t.Fatal("the child did not escape, so this tested nothing")
	}
	if err := unix.Kill(number, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child.endsWithin(patience)
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
	if process.endsWithin(0) {
		t.Fatal("the process ended before its agent")
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	if !process.endsWithin(patience) {
		t.Fatal("the process outlived its agent")
	}
}
