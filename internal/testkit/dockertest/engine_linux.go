package dockertest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/testkit"
)

// Engine is a Docker engine of a test's own, which it can do anything to.
type Engine struct {
	// Host is where it answers, as DOCKER_HOST takes it.
	Host    string
	t       *testing.T
	dir     string
	args    []string
	process *exec.Cmd
}

// Network is [testkit.OwnNetwork] where an engine can be started in it; elsewhere the test is left out.
func Network(t *testing.T) bool {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		testkit.LeaveOut(t, "tests that start a Docker engine of their own take root and dockerd", "install docker.io, and run make as root")
	}
	return testkit.OwnNetwork(t)
}

// NewEngine starts an engine in a network of the test's own: see [Network]. Its data is at dataRoot,
// or if that is "" in a temporary directory. When the test ends, so does it, with all that it runs.
func NewEngine(t *testing.T, dataRoot string, args ...string) *Engine {
	t.Helper()
	if !testkit.OwnsNetwork() {
		t.Fatal("an engine of its own would change the machine's network")
	}
	dir, err := os.MkdirTemp("", "jetway-engine") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	if dataRoot == "" {
		dataRoot = filepath.Join(dir, "data")
	}
	e := &Engine{t: t, dir: dir, Host: "unix://" + filepath.Join(dir, "socket")}
	e.args = append([]string{
		"--data-root", dataRoot, "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--host", e.Host, "--cgroup-parent", "/" + filepath.Base(dir),
	}, args...)
	t.Cleanup(e.remove)
	e.Start()
	return e
}

// Start starts the engine, also again, and waits until it answers.
func (e *Engine) Start() {
	e.t.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.process = exec.Command("dockerd", e.args...)
	e.process.Stdout, e.process.Stderr = log, log
	if err := e.process.Start(); err != nil {
		e.t.Fatal(err)
	}
	testkit.Eventually(e.t, "the engine answers", func() bool { return answers(e.Host) })
}

// answers says whether an engine answers at a URL.
func answers(host string) bool {
	ask := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
		},
	}}
	resp, err := ask.Get("http://docker/_ping")
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// Signal sends the engine a signal.
func (e *Engine) Signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.process.Process.Signal(s); err != nil {
		e.t.Error(err)
	}
}

// Stop ends the engine, as an upgrade does.
func (e *Engine) Stop() {
	e.t.Helper()
	e.Signal(syscall.SIGTERM)
	_ = e.process.Wait()
}

// Crash kills the engine, and its containerd with it. What they ran runs on.
func (e *Engine) Crash() {
	e.t.Helper()
	e.Signal(syscall.SIGKILL)
	_ = e.process.Wait()
	note := filepath.Join(e.dir, "exec", "containerd", "containerd.pid")
	for _, pid := range processesWith("cmdline", strings.TrimSuffix(note, ".pid")+".toml") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// Its parent has gone, and who is now may not reap it soon: an engine would wait.
	for _, file := range []string{note, filepath.Join(e.dir, "pid")} {
		if err := os.Remove(file); err != nil {
			e.t.Error(err)
		}
	}
}

// processesWith are those that have a word in one of their files of /proc.
func processesWith(name, word string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/" + name)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(word)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove ends the engine with all that it runs, and all that it mounted.
func (e *Engine) remove() {
	if e.process != nil && e.process.ProcessState == nil {
		_ = e.process.Process.Signal(syscall.SIGCONT)
		e.Stop()
	}
	if e.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
		e.t.Logf("the engine said:\n%s", log[max(0, len(log)-5000):])
	}
	for _, pid := range append(processesWith("cgroup", filepath.Base(e.dir)), processesWith("cmdline", e.dir)...) {
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
	testkit.Eventually(e.t, e.dir+" is removed", func() bool { return os.RemoveAll(e.dir) == nil })
}
