//go:build deploy

package deployed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// network is a switch, in the test's own network, with hosts at it.
type network struct {
	t   *testing.T
	dir string
	log *os.File
}

// newNetwork has the test itself at 10.77.0.1, as a visitor.
func newNetwork(t *testing.T) *network {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "jetway-hosts")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, dir: dir}
	if n.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := os.ReadFile(n.log.Name())
			t.Logf("the hosts said:\n%s", said[max(0, len(said)-20000):])
		}
		_ = n.log.Close()
		_ = os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.ip("link add br0 type bridge")
	n.ip("addr add 10.77.0.1/24 dev br0")
	n.ip("link set br0 up")
	return n
}

func (n *network) ip(line string) {
	n.t.Helper()
	if said, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v\n%s", line, err, said)
	}
}

// host is a machine, as far as its network goes.
type host struct {
	*network
	name, addr, dir string
	holder          *exec.Cmd
	running         map[string]*exec.Cmd
}

func (n *network) host(name string, number int) *host {
	n.t.Helper()
	h := &host{network: n, name: name, addr: fmt.Sprintf("10.77.0.%d", number), dir: filepath.Join(n.dir, name), running: map[string]*exec.Cmd{}}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	h.holder = exec.Command("sleep", "infinity")
	h.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := h.holder.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(h.lose)
	pid := strconv.Itoa(h.holder.Process.Pid)
	n.ip("link add v" + name + " type veth peer name eth0 netns " + pid)
	n.ip("link set v" + name + " master br0 up")
	h.run("ip", "link", "set", "lo", "up")
	h.run("ip", "addr", "add", h.addr+"/24", "dev", "eth0")
	h.run("ip", "link", "set", "eth0", "up")
	return h
}

// command is a program on the host.
func (h *host) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(h.holder.Process.Pid), "-n", "--"}, args...)...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), h.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program to its end, which must be a good one.
func (h *host) run(args ...string) string {
	h.t.Helper()
	said, err := h.command(nil, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %s: %v\n%s", h.name, strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(said))
}

// start starts a program of the host's under a name, or again, after it has ended as an upgrade has it.
func (h *host) start(name string, env []string, args ...string) {
	h.t.Helper()
	if old := h.running[name]; old != nil {
		_ = old.Process.Signal(syscall.SIGTERM)
		_ = old.Wait()
	}
	cmd := h.command(env, args...)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.running[name] = cmd
}

// lose is the end of the host: cut from one moment to the next, with all that runs there.
func (h *host) lose() {
	if h.holder.ProcessState != nil {
		return
	}
	_ = exec.Command("ip", "link", "del", "v"+h.name).Run()
	network, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.holder.Process.Pid))
	testkit.Eventually(h.t, h.name+" is gone", func() bool {
		left := 0
		files, _ := filepath.Glob("/proc/[0-9]*/ns/net")
		for _, file := range files {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			if of, err := os.Readlink(file); err == nil && of == network && pid != h.holder.Process.Pid {
				left++
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		for _, cmd := range h.running {
			if cmd.ProcessState == nil {
				_ = cmd.Wait()
			}
		}
		return left == 0
	})
	_ = h.holder.Process.Kill()
	_ = h.holder.Wait()
}
