package dockertest

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// OnPodman runs the tests that a pattern names once more, in a process and a network of their own,
// with the Podman of a user as the engine, and as that user.
func OnPodman(t *testing.T, as, pattern string) {
	t.Helper()
	if _, err := exec.LookPath("podman"); err != nil || os.Geteuid() != 0 {
		testkit.LeaveOut(t, "tests of Podman take root and podman", "install podman, slirp4netns and uidmap, and run make as root")
	}
	if !testkit.OwnNetwork(t) {
		return
	}
	who, err := user.Lookup(as)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	dir, err := os.MkdirTemp("", "jetway-podman") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := "unix://" + filepath.Join(dir, "socket")
	env := append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "TMPDIR="+dir, "DOCKER_HOST="+socket, "CONTAINERS_REGISTRIES_CONF="+filepath.Join(dir, "registries"))
	start := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o711), os.WriteFile(filepath.Join(dir, "registries"), []byte("[[registry]]\nprefix = \"127.0.0.1\"\nlocation = \"127.0.0.1\"\ninsecure = true\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if uid != 0 {
		grantIDs(t, as)
		openTUN(t)
	}
	storage := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"), "--cgroup-manager", "cgroupfs"}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	service := start("podman", append(storage, "system", "service", "--time", "0", socket)...)
	service.Stdout, service.Stderr = log, log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait()
		_ = syscall.Kill(-service.Process.Pid, syscall.SIGKILL) // rootless, its first process waits for another
		if said, err := start("podman", append(storage, "system", "reset", "--force")...).CombinedOutput(); err != nil {
			t.Logf("podman system reset: %v: %s", err, said)
		}
		for _, at := range []string{"run/libpod/tmp/pause.pid", "libpod/tmp/pause.pid", "tmp/pause.pid"} { // it keeps the user's namespace
			raw, _ := os.ReadFile(filepath.Join(dir, at))
			if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if said, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("Podman said:\n%s", said[max(0, len(said)-5000):])
		}
		_ = os.RemoveAll(dir)
	})
	testkit.Eventually(t, "Podman answers", func() bool { return answers(socket) })
	if err := os.Chmod(filepath.Join(dir, "socket"), 0o660); err != nil { // as systemd does
		t.Fatal(err)
	}
	tests := start("/proc/self/exe", "-test.run="+pattern, "-test.v", "-test.parallel=3", "-test.count=1", "-test.timeout=0")
	if uid == 0 {
		tests.Dir, tests.Env = "", append(os.Environ(), "DOCKER_HOST="+socket) // here, which another user may not see
	}
	said, err := tests.CombinedOutput()
	if t.Logf("on Podman of %s:\n%s", as, said); err != nil {
		t.Error(err)
	}
}

// grantIDs has a user own subordinate ids, where the machine has not given it any.
func grantIDs(t *testing.T, name string) {
	t.Helper()
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		had, err := os.ReadFile(file)
		if err != nil {
			testkit.LeaveOut(t, "tests of rootless Podman take subordinate ids: "+err.Error(), "install uidmap")
		}
		if strings.Contains("\n"+string(had), "\n"+name+":") {
			continue
		}
		t.Cleanup(func() { _ = os.WriteFile(file, had, 0o644) })
		if err := os.WriteFile(file, append(had, name+":524288:65536\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// openTUN lets every user make a network device in a network of its own, as machines with udev do.
func openTUN(t *testing.T) {
	t.Helper()
	const tun = "/dev/net/tun"
	was, err := os.Stat(tun)
	if err == nil && was.Mode().Perm() != 0o666 {
		t.Cleanup(func() { _ = os.Chmod(tun, was.Mode().Perm()) })
		err = os.Chmod(tun, 0o666)
	}
	if err != nil {
		testkit.LeaveOut(t, "tests of rootless Podman take "+tun+": "+err.Error(), "modprobe tun")
	}
}
