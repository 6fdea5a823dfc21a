package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime/cgroup"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// nobody is a user that owns nothing on this machine.
const nobody = 54321

// keeper is such an agent, in a process of its own, as a user of the machine.
type keeper struct {
	t      *testing.T
	config process.Config
	cmd    *exec.Cmd
	orders io.Writer
	lines  *bufio.Scanner
}

// newKeeper makes an agent of a user, which for another one than root is in a control group
// as a unit with Delegate=yes and DelegateSubgroup=agent has it.
func newKeeper(t *testing.T, user int) *keeper {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "tests that start agents of other users", "run as root")
	}
	root, state := newRoot(t), t.TempDir()
	k := &keeper{t: t, config: process.Config{Root: root, StateDir: state, Drone: fmt.Sprintf("dr-%x", rand.Uint64())}}
	for _, dir := range []string{filepath.Dir(root), root, state} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, user, user); err != nil {
		t.Fatal(err)
	}
	k.cmd = exec.Command(filepath.Join(k.config.Root, "helper"))
	k.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if user != 0 {
		k.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
	}
	t.Cleanup(func() { removeGroups(t, k.config.Drone+".*") })
	return k
}

// delegate puts the agent into a control group that is its user's.
func (k *keeper) delegate(user int) {
	k.t.Helper()
	base, err := cgroup.Open("", k.config.Drone)
	if err != nil {
		k.t.Log(err)
		testkit.LeaveOut(k.t, "tests of control groups", "run as root on Linux 5.14 or later")
	}
	base.Close()
	unit := filepath.Join(filepath.Dir(filepath.Dir(base.Dir())), k.config.Drone+".service")
	agent := filepath.Join(unit, "agent")
	for _, dir := range []string{unit, agent} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			k.t.Fatal(err)
		}
	}
	for _, path := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "agent", "agent/cgroup.procs"} {
		if err := os.Chown(filepath.Join(unit, path), user, user); err != nil {
			k.t.Fatal(err)
		}
	}
	fd, err := unix.Open(agent, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	k.cmd.SysProcAttr.UseCgroupFD, k.cmd.SysProcAttr.CgroupFD = true, fd
	k.t.Cleanup(func() {
		unix.Close(fd)
		_ = cgroup.Kill(unit)
		left, _ := filepath.Glob(filepath.Join(unit, "*", "*", "cgroup.procs"))
		more, _ := filepath.Glob(filepath.Join(unit, "*", "cgroup.procs"))
		for _, group := range append(append(left, more...), filepath.Join(unit, "cgroup.procs")) {
			dir := filepath.Dir(group)
			testkit.Eventually(k.t, "the unit's control group is empty", func() bool { err := unix.Rmdir(dir); return err == nil || err == unix.ENOENT })
		}
	})
}

// start starts it with a script for its backend, and the limits of that, as JSON.
func (k *keeper) start(script, limits string) {
	k.t.Helper()
	if err := writeScript(k.config.Root, "script", script); err != nil {
		k.t.Fatal(err)
	}
	config, err := json.Marshal(k.config)
	if err != nil {
		k.t.Fatal(err)
	}
	k.cmd.Args = append(k.cmd.Args, "as=keeper", string(config), `{"command": ["script"], "resource_limits": `+limits+`}`)
	k.cmd.Dir, k.cmd.Stderr = "/", os.Stderr
	if k.orders, err = k.cmd.StdinPipe(); err != nil {
		k.t.Fatal(err)
	}
	output, err := k.cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
	})
	k.lines = bufio.NewScanner(output)
}

// says waits until it says something that begins so, and gives the rest.
func (k *keeper) says(prefix string) string {
	k.t.Helper()
	stop := context.AfterFunc(testkit.Context(k.t), func() { _ = k.cmd.Process.Kill() })
	defer stop()
	for k.lines.Scan() {
		if rest, ok := strings.CutPrefix(k.lines.Text(), prefix); ok {
			return rest
		}
	}
	k.t.Fatalf("it has not said %q", prefix)
	return ""
}

func (k *keeper) tell(order string) {
	k.t.Helper()
	if _, err := fmt.Fprintln(k.orders, order); err != nil {
		k.t.Fatal(err)
	}
}

// watches is the process whose number it says.
func (k *keeper) watches(prefix string) watched {
	k.t.Helper()
	return watch(k.t, strings.TrimSpace(k.says(prefix)))
}

// throttled is how often the kernel has held a backend back, by its handle.
func throttled(t *testing.T, handle string) (times int) {
	t.Helper()
	unified := strings.SplitN(handle, " ", 6)[5]
	base, name := filepath.Split(unified)
	dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/cpu*/jetway", filepath.Base(base), name))
	for _, dir := range append(dirs, unified) {
		raw, _ := os.ReadFile(filepath.Join(dir, "cpu.stat"))
		if _, rest, ok := strings.Cut(string(raw), "nr_throttled "); ok {
			if _, err := fmt.Sscan(rest, &times); err == nil && times > 0 {
				return times
			}
		}
	}
	return times
}
