package process_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// groupOf is the control group of a process in the unified hierarchy.
func groupOf(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, path, ok := strings.Cut(string(raw), "0::")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); ok && strings.Contains(line, " - cgroup2 ") {
			return filepath.Join(words[4], strings.TrimSpace(path))
		}
	}
	t.Fatalf("process %d is in no group: %s", pid, raw)
	return ""
}

// isFrozen says whether a process does nothing: its group is frozen, or it is stopped.
func isFrozen(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	events, _ := os.ReadFile(filepath.Join(groupOf(t, pid), "cgroup.events"))
	return strings.Contains(string(stat), ") T ") || strings.Contains(string(events), "frozen 1")
}

// sleeper is a talker with a child that has left its group, in such a pen.
func sleeper(t *testing.T, cgroup string) (s *stage, instance *process.Instance, child int) {
	t.Helper()
	s = newStage(t, func(c *process.Config) { c.Cgroup = cgroup })
	spec := s.spec("as=talker")
	spec.Env = map[string]string{runtime.EnvBackendID: spec.BackendID}
	instance = s.start(spec)
	s.line("ready")
	child, err := strconv.Atoi(tell(t, instance.Address(), "child setsid"))
	if err != nil {
		t.Fatal(err)
	}
	return s, instance, child
}

// fallAsleep has an instance sleep, and waits until all of it does.
func fallAsleep(t *testing.T, instance *process.Instance, child int) (woken chan struct{}) {
	t.Helper()
	woken = make(chan struct{}, 10)
	if err := instance.Sleep(t.Context(), func() { woken <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{instance.PID(), child} {
		testkit.Eventually(t, "it is frozen", func() bool { return isFrozen(t, pid) })
	}
	return woken
}

// The demand: all of a process sleeps, also what has left its group, and who comes meanwhile is served when it wakes.
func TestSleepsAndWakes(t *testing.T) {
	t.Parallel()
	eachPen(t, func(t *testing.T, cgroup string) {
		t.Helper()
		_, instance, child := sleeper(t, cgroup)
		for range 2 {
			woken := fallAsleep(t, instance, child)
			if usage, err := instance.Usage(t.Context()); err != nil || usage.MemUsed == 0 {
				t.Errorf("asleep it uses %+v: %v", usage, err)
			}
			conn, err := net.Dial("tcp", instance.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintln(conn, "child"); err != nil {
				t.Fatal(err)
			}
			if !isFrozen(t, instance.PID()) {
				t.Error("a visitor has woken it")
			}
			for range 2 { // again is no error
				if err := instance.Wake(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
				t.Fatalf("it answers %q: %v", answer, err)
			}
			if isFrozen(t, child) {
				t.Error("its child sleeps on")
			}
			if len(woken) > 0 {
				t.Error("it is said to have been woken by somebody else")
			}
		}
	})
}

// I1, I6: what sleeps ends when it is told to, softly, for which it wakes, or hard, and its end by somebody else's hand is seen.
func TestI1SleepingProcessEnds(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]runtime.Exit{"soft": {Code: 7}, "hard": {Code: -1, Signal: "SIGKILL"}, "outside": {Code: -1, Signal: "SIGKILL"}} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			eachPen(t, func(t *testing.T, cgroup string) {
				t.Helper()
				s, instance, child := sleeper(t, cgroup)
				left := watch(t, strconv.Itoa(child))
				fallAsleep(t, instance, child)
				var err error
				if how == "outside" {
					err = unix.Kill(instance.PID(), unix.SIGKILL)
				} else {
					err = instance.Terminate(t.Context(), how == "hard")
				}
				if err != nil {
					t.Fatal(err)
				}
				if exit := s.exit(instance); exit != want {
					t.Errorf("ended with %+v", exit)
				}
				left.ends(t)
				if err := instance.Wake(t.Context()); err != nil {
					t.Errorf("wake after the end: %v", err)
				}
			})
		})
	}
}

// I1: what an agent that was killed has left asleep, a later one takes over, wakes and ends.
func TestI1SleepingProcessIsAdopted(t *testing.T) {
	t.Parallel()
	eachPen(t, func(t *testing.T, cgroup string) {
		t.Helper()
		for _, wakes := range []bool{true, false} {
			h := newHeirIn(t, cgroup)
			o := h.orphan(t)
			var err error
			if cgroup == "" {
				err = os.WriteFile(filepath.Join(groupOf(t, o.pid), "cgroup.freeze"), []byte("1"), 0)
			} else {
				err = unix.Kill(-o.pid, unix.SIGSTOP)
			}
			if err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "it is frozen", func() bool { return isFrozen(t, o.pid) })
			instance := h.adopt(t, o.handle)
			if wakes {
				if err := instance.Wake(t.Context()); err != nil {
					t.Fatal(err)
				}
				tell(t, o.address, "say awake")
			}
			if err := instance.Terminate(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			checkExit(t, h.exit(instance), runtime.Exit{Code: 7})
		}
	})
}

// The demand: a group that somebody else has thawed is told, once.
func TestSleepSaysWhoWasWokenByAnother(t *testing.T) {
	t.Parallel()
	_, instance, child := sleeper(t, "")
	group := groupOf(t, instance.PID())
	if _, err := os.Stat(filepath.Join(group, "cgroup.freeze")); err != nil {
		t.Log(err)
		testkit.LeaveOut(t, "tests of frozen control groups", "run as root on Linux 5.14 or later")
	}
	woken := fallAsleep(t, instance, child)
	if err := os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, woken, "it is said to be awake")
	woken = fallAsleep(t, instance, child)
	if err := instance.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	tell(t, instance.Address(), "say awake")
	if len(woken) > 0 {
		t.Error("who has woken it is told so")
	}
}
