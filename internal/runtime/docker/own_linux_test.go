package docker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// ownEngine is a Docker engine of a test's own, which it can do anything to. It has a
// network of its own, where it cannot touch that of the machine, nor another engine's.
type ownEngine struct {
	*client.Client
	t       *testing.T
	dir     string
	args    []string
	process *exec.Cmd
	network *os.File // the namespace, which stays the same when it is started again
}

// newEngine starts an engine. The tests that have one do not run at once.
func newEngine(t *testing.T, dataRoot string, args ...string) *ownEngine {
	t.Helper()
	image(t, "odd") // the program is built
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		notHere(t, "an engine of its own takes root and dockerd")
	}
	dir, err := os.MkdirTemp("", "jetway-engine") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	if dataRoot == "" {
		dataRoot = filepath.Join(dir, "data")
	}
	e := &ownEngine{t: t, dir: dir}
	e.args = append([]string{
		"--data-root", dataRoot, "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--host", e.socket(), "--cgroup-parent", "/" + filepath.Base(dir),
	}, args...)
	t.Cleanup(e.remove)
	if e.Client, err = client.New(client.WithHost(e.socket())); err != nil {
		t.Fatal(err)
	}
	e.start()
	if err := importImage(t.Context(), e.Client, "odd", "odd", shared.programs["odd"], 0o755, imageChanges["odd"]); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ownEngine) socket() string { return "unix://" + filepath.Join(e.dir, "socket") }

// start starts the engine, also again, and waits until it answers.
func (e *ownEngine) start() {
	e.t.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.process = exec.Command("/proc/self/exe", e.args...)
	e.process.Stdout, e.process.Stderr = log, log
	e.process.Env = append(os.Environ(), asEngine+"=new")
	if e.network == nil {
		e.process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	} else {
		e.process.Env = append(e.process.Env, asEngine+"=again")
		e.process.ExtraFiles = []*os.File{e.network}
	}
	if err := e.process.Start(); err != nil {
		e.t.Fatal(err)
	}
	if e.network == nil {
		if e.network, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", e.process.Process.Pid)); err != nil {
			e.t.Fatal(err)
		}
	}
	await(e.t, "that the engine answers", func() bool {
		ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
		defer cancel()
		_, err := e.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
		return err == nil
	})
}

// becomeEngine is the engine from before it is one: it goes into its network.
func becomeEngine(how string) error {
	if how == "again" {
		if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("go into the network: %w", err)
		}
		unix.CloseOnExec(3)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		return fmt.Errorf("bring up the loopback: %w", err)
	}
	program, err := exec.LookPath("dockerd")
	if err != nil {
		return err
	}
	return unix.Exec(program, append([]string{"dockerd"}, os.Args[1:]...), os.Environ())
}

// upgrade ends the engine as an upgrade does.
func (e *ownEngine) upgrade() {
	e.t.Helper()
	if err := e.process.Process.Signal(syscall.SIGTERM); err != nil {
		e.t.Error(err)
	}
	_ = e.process.Wait()
}

// crash kills the engine, and its containerd with it. What they ran runs on.
func (e *ownEngine) crash() {
	e.t.Helper()
	if err := e.process.Process.Kill(); err != nil {
		e.t.Error(err)
	}
	_ = e.process.Wait()
	note := filepath.Join(e.dir, "exec", "containerd", "containerd.pid")
	for _, pid := range processesWith(note[:len(note)-len(".pid")] + ".toml") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// Its parent has gone, and who is now may not reap it soon: an engine would wait.
	for _, file := range []string{note, filepath.Join(e.dir, "pid")} {
		if err := os.Remove(file); err != nil {
			e.t.Error(err)
		}
	}
}

// processesWith are those whose arguments have a word.
func processesWith(word string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		arguments, err := os.ReadFile(file)
		if err == nil && bytes.Contains(arguments, []byte(word)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove ends the engine with all that it runs, and all that it mounted.
func (e *ownEngine) remove() {
	if e.Client != nil {
		_ = e.Close()
	}
	if e.process != nil && e.process.ProcessState == nil {
		_ = e.process.Process.Signal(syscall.SIGCONT)
		e.upgrade()
	}
	if e.network != nil {
		_ = e.network.Close()
	}
	if e.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
		e.t.Logf("the engine said:\n%s", log[max(0, len(log)-5000):])
	}
	for _, pid := range append(membersOf(e.t, filepath.Base(e.dir)), processesWith(e.dir)...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	below := slices.Collect(strings.Lines(string(mounts)))
	slices.Reverse(below)
	for _, line := range below {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], e.dir) {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
		}
	}
	await(e.t, "the removal of "+e.dir, func() bool { return os.RemoveAll(e.dir) == nil })
}

// fields are what an executable needs on this engine.
func (e *ownEngine) fields(more ...any) []any {
	return append([]any{"image", "odd"}, more...)
}
