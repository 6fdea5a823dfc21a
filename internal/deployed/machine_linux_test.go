//go:build deploy

package deployed

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// machine is a Debian system of its own, with systemd as its first process, in a container of
// systemd-nspawn with a network of its own.
type machine struct {
	t    *testing.T
	root string
	log  bytes.Buffer
	run  *exec.Cmd
}

// newMachine unpacks a system and starts it.
func newMachine(t *testing.T, prepare func(root string)) *machine {
	t.Helper()
	root, err := os.MkdirTemp("/var/tmp", "jetway-machine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	m := &machine{t: t, root: root}
	m.host("tar", "-C", root, "-xf", tool(t, "root.tar"))
	prepare(root)
	t.Cleanup(m.end)
	m.boot()
	return m
}

// boot starts the machine, and waits until it has started.
func (m *machine) boot() {
	m.t.Helper()
	// The host's own systemd, if it has one, is not to know of it.
	m.run = exec.Command("systemd-nspawn", "-D", m.root, "--boot", "--register=no", "--keep-unit", "--private-network", "--console=read-only", "--quiet", "--kill-signal=SIGRTMIN+4")
	m.run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	m.run.Stdout, m.run.Stderr = &m.log, &m.log
	if err := m.run.Start(); err != nil {
		m.t.Fatal(err)
	}
	testkit.Eventually(m.t, "the machine has booted", func() bool {
		said, _ := m.try("systemctl", "is-system-running")
		return strings.HasPrefix(said, "running") || strings.HasPrefix(said, "degraded")
	})
}

func (m *machine) end() {
	if m.t.Failed() {
		said, _ := m.try("journalctl", "--no-pager", "-b", "-n", "200", "-u", "jetway-*")
		m.t.Logf("the journal:\n%s", said)
	}
	if m.run.ProcessState == nil {
		_ = m.run.Process.Signal(syscall.SIGTERM)
		_ = m.run.Wait()
	}
}

// first is the first process of the machine, as the host sees it; 0 while there is none.
func (m *machine) first() int {
	said, _ := exec.Command("pgrep", "-P", strconv.Itoa(m.run.Process.Pid)).Output()
	pid, _ := strconv.Atoi(strings.TrimSpace(string(said)))
	return pid
}

// reboot has the machine end as `reboot` does, and starts it again, as systemd-nspawn leaves to its own unit.
func (m *machine) reboot() {
	m.t.Helper()
	_, _ = m.try("systemctl", "reboot")
	_ = m.run.Wait()
	m.boot()
}

// try runs a command in the machine.
func (m *machine) try(command ...string) (string, error) {
	first := m.first()
	if first == 0 {
		return "", os.ErrProcessDone
	}
	said, err := exec.Command("nsenter", append([]string{
		"-t", strconv.Itoa(first), "-m", "-u", "-i", "-n", "-p", "-r/proc/" + strconv.Itoa(first) + "/root",
		"env", "-i", "-C", "/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
	}, command...)...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

// sh runs a line of shell in the machine, which must succeed.
func (m *machine) sh(line string) string {
	m.t.Helper()
	said, err := m.try("sh", "-c", line)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, said)
	}
	return said
}

// eventually waits until a line of shell succeeds in the machine.
func (m *machine) eventually(what, line string) {
	m.t.Helper()
	testkit.Eventually(m.t, what, func() bool {
		_, err := m.try("sh", "-c", line)
		return err == nil
	})
}

// get fetches a URL in the machine's network; args are curl's.
func (m *machine) get(url string, args ...string) (string, bool) {
	said, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.first()), "-n", "curl", "-sf", "--noproxy", "*", url}, args...)...).Output()
	return string(said), err == nil
}

// file writes a file of the machine.
func (m *machine) file(name string, mode os.FileMode, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// host runs a command of the host's.
func (m *machine) host(name string, args ...string) {
	m.t.Helper()
	if said, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, said)
	}
}
