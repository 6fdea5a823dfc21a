package procs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// start starts a shell script that leads a process group.
func start(t *testing.T, script string, args ...string) (*exec.Cmd, *Ref) {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", script}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd, open(t, cmd.Process.Pid)
}

func open(t *testing.T, pid int) *Ref {
	t.Helper()
	id, err := Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ref.Close)
	return ref
}

func (r *Ref) ends(t *testing.T) {
	t.Helper()
	giveUp := time.AfterFunc(testkit.Patience, r.Close)
	defer giveUp.Stop()
	if err := r.Wait(); err != nil {
		t.Fatalf("process %d lives: %v", r.PID, err)
	}
}

func TestStatOfAnyName(t *testing.T) {
	t.Parallel()
	rest := " S 5 7 6 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 987654321 1000 25 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 15, 15).Draw(t, "name")
		stat, ok := parse([]byte("42 (" + name + ")" + rest))
		want := Stat{ID: ID{42, 987654321}, CPUTicks: 110, RSSPages: 25}
		if !ok || stat != want {
			t.Fatalf("%q: %+v, %v", name, stat, ok)
		}
	})
	for _, raw := range []string{"", "42", "42 (a", "42 (a)", "42 (a) S 1 2", "x (a)" + rest, "42 (a)" + strings.Replace(rest, "987654321", "?", 1)} {
		if stat, ok := parse([]byte(raw)); ok {
			t.Errorf("%q: %+v", raw, stat)
		}
	}
}

func TestIdentifiesOneProcessOnly(t *testing.T) {
	t.Parallel()
	cmd, ref := start(t, "exec sleep 1000")
	other := ref.ID
	other.Start--
	if _, err := Open(other); !errors.Is(err, ErrGone) {
		t.Errorf("another start: %v", err)
	}
	if ref.Ended() {
		t.Fatal("it has ended")
	}
	if err := ref.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ref.ends(t)
	if stat, err := Read(ref.PID); err != nil || !stat.Zombie || stat.ID != ref.ID || !ref.Ended() {
		t.Errorf("not reaped: %+v, %v", stat, err)
	}
	_ = cmd.Wait()
	if _, err := Open(ref.ID); !errors.Is(err, ErrGone) {
		t.Errorf("reaped: %v", err)
	}
	for _, signal := range []func(syscall.Signal) error{ref.Signal, ref.SignalGroup} {
		if err := signal(unix.SIGTERM); err != nil {
			t.Errorf("signal after the end: %v", err)
		}
	}
}

// The status is known whether the process has been reaped (by the kernel's word) or not
// (by /proc).
func TestExitStatusOfAnothersChild(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]syscall.WaitStatus{
		"read line; exit 3":        3 << 8,
		"read line; exit 0":        0,
		"read line; kill -KILL $$": 9,
		"read line; exit 255":      255 << 8,
	} {
		for _, reaped := range []bool{false, true} {
			dir := t.TempDir()
			fifo := filepath.Join(dir, "fifo")
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd, ref := start(t, "exec < "+fifo+"; "+script)
			if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ref.ends(t)
			if reaped {
				_ = cmd.Wait()
			}
			status, ok := ref.ExitStatus()
			if !ok && reaped && !knows(t) {
				continue
			}
			if !ok || status != want {
				t.Errorf("%s, reaped %v: status %#x, %v, want %#x", script, reaped, status, ok, want)
			}
		}
	}
}

// knows says whether the kernel keeps statuses: since Linux 6.15.
func knows(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	version := strings.SplitN(unix.ByteSliceToString(name.Release[:]), ".", 3)
	major, _ := strconv.Atoi(version[0])
	minor, _ := strconv.Atoi(version[1])
	return major > 6 || major == 6 && minor >= 15
}

// By the kernel's way, and by the one for kernels before 6.9.
func TestSignalGroupReachesMembersOnly(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]func(*Ref, syscall.Signal) error{
		"kernel": (*Ref).SignalGroup, "led": (*Ref).signalLed,
	} {
		for _, leaderEnded := range []bool{false, true} {
			pids := filepath.Join(t.TempDir(), "pids")
			if err := unix.Mkfifo(pids, 0o600); err != nil {
				t.Fatal(err)
			}
			_, leader := start(t, `sleep 1000 & a=$!; setsid sleep 1000 & echo $a $! > "$0"; wait`, pids)
			raw, err := os.ReadFile(pids)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Fields(string(raw))
			first, _ := strconv.Atoi(words[0])
			second, _ := strconv.Atoi(words[1])
			member, escaped := open(t, first), open(t, second)
			testkit.Eventually(t, "it is in a session of its own", func() bool { sid, err := unix.Getsid(second); return err == nil && sid == second })
			if leaderEnded { // and is a zombie
				if err := leader.Signal(unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				leader.ends(t)
			}
			if err := signal(leader, unix.SIGKILL); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			member.ends(t)
			leader.ends(t)
			if escaped.Ended() {
				t.Errorf("%s: it reached who is not of the group", name)
			}
			_ = escaped.Signal(unix.SIGKILL)
		}
	}
}

func TestFindsByEnvironment(t *testing.T) {
	t.Parallel()
	label := "JETWAY_TEST_" + strconv.Itoa(os.Getpid())
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Env = []string{"BIG=" + strings.Repeat("x", 100_000), label + "_NOT=1", "X" + label + "=2", label + "=a=b", "LAST="}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	want, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Start returns when the program's files are closed to it, before the kernel has
	// written where its environment is.
	testkit.Eventually(t, "it has an environment", func() bool { return len(environ(nil, cmd.Process.Pid)) > 0 })
	var got []ID
	err = Each(func(env Env) bool { return env.Has(label, "a=b") }, func(id ID, env Env) {
		got = append(got, id)
		if _, ok := env.Get("LAST"); !ok {
			t.Error("the last variable, which is empty, is not found")
		}
		if _, ok := env.Get("LAS"); ok {
			t.Error("a part of a name is found")
		}
	})
	if err != nil || len(got) != 1 || got[0] != want {
		t.Fatalf("found %v, %v, want %v", got, err, want)
	}
	_ = cmd.Process.Kill()
	open(t, cmd.Process.Pid).ends(t)
	got = nil
	if err := Each(func(env Env) bool { return env.Has(label, "a=b") }, func(id ID, _ Env) { got = append(got, id) }); err != nil || len(got) != 0 {
		t.Fatalf("found a zombie: %v, %v", got, err)
	}
}

func TestCloseEndsWait(t *testing.T) {
	t.Parallel()
	_, ref := start(t, "exec sleep 1000")
	done := make(chan error)
	go func() { done <- ref.Wait() }()
	ref.Close()
	if err := <-done; err == nil {
		t.Fatal("it has ended, says Wait")
	}
}

func BenchmarkEach(b *testing.B) {
	for b.Loop() {
		if err := Each(func(Env) bool { return false }, func(ID, Env) {}); err != nil {
			b.Fatal(err)
		}
	}
}
