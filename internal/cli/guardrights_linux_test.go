package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// unprivileged has a command run as a user who may ask the Docker engine and nothing else, with a copy of this program.
func unprivileged(t *testing.T, cmd *exec.Cmd, socket, data string) {
	t.Helper()
	var engine syscall.Stat_t
	if err := syscall.Stat(socket, &engine); err != nil {
		t.Fatal(err)
	}
	const user = 12345
	dir, err := os.MkdirTemp("/tmp", "jetway-test-") // not below a directory of root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "jetway.test")
	from, err := os.Open(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE, 0o755)
	if err == nil {
		_, err = io.Copy(to, from)
	}
	if err == nil {
		err = to.Close()
	}
	for _, step := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return os.Mkdir(data, 0o700) },
		func() error { return os.Chown(data, user, user) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = program
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: engine.Gid}}
}

// I1: a drone whose user may not signal the processes of containers is killed. Its guard ends them by the engine,
// before another agent may run their key.
func TestI1GuardWithoutRightsEndsContainersByTheEngine(t *testing.T) {
	testkit.Long(t) // a lease has to run out
	t.Parallel()
	dockertest.Needs(t)
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "another user runs the agent", "run it as root")
	}
	bus, dsn := natstest.Server(t), pgtest.Database(t)
	begin(t, "--log-level=warn", "worker", "--nats", bus.URL(), "--postgres", dsn, "--default-cluster", "c.test", "--lease-ttl", "15s")
	s := newSiteIn(t, &dev.Stack{NATSURL: bus.URL(), Cluster: "c.test"}, "docker")
	s.awaitWorker()
	socket, local := strings.CutPrefix(s.engine.DaemonHost(), "unix://")
	if !local {
		testkit.LeaveOut(t, "who may ask the engine is said by its socket's group", "run it with a local engine")
	}
	for dir := filepath.Dir(socket); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&1 == 0 {
			testkit.LeaveOut(t, "other users cannot reach the engine's socket in "+dir, "let them (chmod o+x), or run it with the system's engine")
		}
	}
	dir, err := os.MkdirTemp("/tmp", "jetway-test-data-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, "--log-level=warn", "drone", "--nats", s.stack.NATSURL, "--name", s.drone, "--pool", s.pool,
		"--cluster", s.stack.Cluster, "--runtime", "docker", "--data-dir", filepath.Join(dir, "data"))
	unprivileged(t, agent, socket, filepath.Join(dir, "data"))
	agent.Stderr = s.stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	testkit.Eventually(t, "it takes spawns", func() bool { return s.info().Ready })
	held := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never"})
	s.awaitStatus(held.BackendID, messages.Ready)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	testkit.Eventually(t, "its container has ended", func() bool { return !s.runs(held.BackendID) })
	if now := s.status(held.BackendID); now.Status == messages.Terminated {
		t.Errorf("the key was free before its container had ended: %+v", now)
	}
}

// I1: the same with Podman.
func TestI1GuardWithoutRightsEndsContainersByPodman(t *testing.T) {
	testkit.Long(t)
	dockertest.OnPodman(t, "root", "^TestI1GuardWithoutRightsEndsContainersByTheEngine$")
}

// runs says whether a backend's container does.
func (s *site) runs(id string) bool {
	for _, c := range s.containers() {
		if strings.HasSuffix(c.Names[0], id) && c.State == "running" {
			return true
		}
	}
	return false
}

// The demand: a drone that no guard stands over takes no backends, and `jetway drones` says why; once one stands, it does.
func TestDroneWithoutAGuardIsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t, "process")
	data := t.TempDir()
	drone := begin(t, "--log-level=error", "drone", "--nats", s.stack.NATSURL, "--name", s.drone, "--pool", s.pool, "--cluster", s.stack.Cluster,
		"--process-root", roomRoot(t), "--data-dir", data, "--guard", "unit")
	t.Cleanup(func() {
		drone.stop()
		drone.ends(ExitOK)
	})
	testkit.Eventually(t, "the workers hear of it", func() bool { return s.info().NotReady != "" })
	stdout, stderr, code := jetway(t, "drones", "--nats", s.stack.NATSURL)
	if code != ExitOK || !strings.Contains(stdout, "NOT READY BECAUSE") || !strings.Contains(stdout, "jetway-guard@") {
		t.Errorf("exit code %d, %s: %s", code, stderr, stdout)
	}
	if now := s.info(); now.Ready {
		t.Errorf("it is ready: %+v", now)
	}
	guard := begin(t, "--log-level=error", "guard", "--data-dir", data)
	t.Cleanup(func() {
		guard.stop()
		guard.ends(ExitOK)
	})
	testkit.Eventually(t, "it takes spawns", func() bool { now := s.info(); return now.Ready && now.NotReady == "" })
}
