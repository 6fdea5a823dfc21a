package guard

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I1: the guard of an agent that is dead ends what sleeps at its hard deadline, however it was frozen: a process in its control group,
// a stopped one, and one in a frozen group of cgroup v1, as a paused container is on older hosts, where it ends only once it is thawed.
func TestI1GuardEndsWhatSleeps(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(t *testing.T, pid int) (group string){
		"a control group": func(t *testing.T, pid int) string {
			t.Helper()
			base, err := cgroup.Open("", "sleeping-"+strconv.Itoa(pid))
			if err != nil {
				t.Log(err)
				testkit.LeaveOut(t, "tests of control groups", "run as root on Linux 5.14 or later")
			}
			group, err := base.Make("b", cgroup.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			removeAfter(t, group.Dir(), base.Dir())
			enter(t, group.Dir(), pid)
			if err := group.Freeze(); err != nil {
				t.Fatal(err)
			}
			awaitFrozen(t, group.Dir(), "cgroup.events", "frozen 1")
			return group.Dir()
		},
		"SIGSTOP": func(t *testing.T, pid int) string {
			t.Helper()
			if err := unix.Kill(-pid, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			return ""
		},
		"a group of v1": func(t *testing.T, pid int) string {
			t.Helper()
			dir := filepath.Join("/sys/fs/cgroup/freezer", "jetway-sleeping-"+strconv.Itoa(pid))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Log(err)
				testkit.LeaveOut(t, "tests of the freezer of cgroup v1", "run as root on a machine that has one")
			}
			removeAfter(t, dir)
			enter(t, dir, pid)
			if err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("FROZEN"), 0); err != nil {
				t.Fatal(err)
			}
			awaitFrozen(t, dir, "freezer.state", "FROZEN")
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetting(t)
			cmd := backendCommand(self(t), "b", droneOf(s.dir))
			leader := watch(t, listen(t, cmd).number("pid"))
			state := journal.State{Status: messages.Ready, PID: leader.PID, Start: leader.Start, Group: freeze(t, leader.PID)}
			if err := put(s.journal, "b", state); err != nil {
				t.Fatal(err)
			}
			s.renew(500, 1000)
			s.look(999)
			leader.lives()
			s.lookUntilDone(1000)
			leader.ends()
		})
	}
}

// enter moves a process into a group.
func enter(t *testing.T, dir string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

func awaitFrozen(t *testing.T, dir, file, word string) {
	t.Helper()
	testkit.Eventually(t, "it is frozen", func() bool {
		raw, _ := os.ReadFile(filepath.Join(dir, file))
		return strings.Contains(string(raw), word)
	})
}

// removeAfter removes groups when the test is over.
func removeAfter(t *testing.T, dirs ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, dir := range dirs {
			testkit.Eventually(t, "the group is empty", func() bool {
				err := unix.Rmdir(dir)
				return err == nil || errors.Is(err, unix.ENOENT)
			})
		}
	})
}
