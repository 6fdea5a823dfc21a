//go:build linux

package torture_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/testkit"
)

// machine is another machine for one agent: a network, processes and a boot of its own. It
// reaches NATS over the harness's links alone, and nobody reaches its backends. When its
// first process ends, all that runs there does, as when a machine loses its power.
type machine struct {
	BootID  string
	Command []string
	// Links are ports of its loopback, and the Unix sockets at which the links are.
	Links map[string]string
}

const (
	// machineEnv makes a child of the test binary a machine.
	machineEnv = "JETWAY_TORTURE_MACHINE"
	// machineIP is where backends on such a machine listen: at home nobody does.
	machineIP = "127.0.0.77"
)

// canMakeMachines: it takes root.
func canMakeMachines() bool { return os.Geteuid() == 0 }

// newMachine makes one for a drone's agent of the given command, with a link to each node.
func (s *system) newMachine(like *proc, dataDir string) *proc {
	n := s.machines.Add(1)
	p := &proc{
		name: fmt.Sprintf("%s-machine-%d", like.name, n), env: like.env, failed: s.fail,
		log:   filepath.Join(s.dir, fmt.Sprintf("%s-machine-%d.log", like.name, n)),
		apart: true,
	}
	m := machine{BootID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Links: map[string]string{}}
	m.Command = append(m.Command, like.command...)
	for i, word := range m.Command {
		if word == "--data-dir" {
			m.Command[i+1] = dataDir
		}
	}
	m.Command = append(m.Command, "--ip", machineIP)
	for i, link := range like.links { // its command names their addresses
		path := filepath.Join(filepath.Dir(s.register.path), fmt.Sprintf("link-%d-%d", n, i))
		listener, err := net.Listen("unix", path)
		if err != nil {
			s.failf("harness: %v", err)
			continue
		}
		own := testkit.NewFaultProxy(s.t, s.nodeURLs[i][len("nats://"):])
		p.links = append(p.links, own)
		m.Links[link.Addr()] = path
		go forward(listener, "tcp", own.Addr())
		s.t.Cleanup(func() { _ = listener.Close() })
	}
	config, err := json.Marshal(m)
	if err != nil {
		s.failf("harness: %v", err)
	}
	p.env = append(append([]string{}, p.env...), machineEnv+"="+string(config))
	p.command = []string{"/proc/self/exe"}
	return p
}

// forward leads what is accepted elsewhere, until the listener is closed.
func forward(listener net.Listener, network, address string) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer from.Close()
			to, err := net.Dial(network, address)
			if err != nil {
				return
			}
			defer to.Close()
			var one sync.Once
			done := make(chan struct{})
			carry := func(dst io.Writer, src io.Reader) {
				_, _ = io.Copy(dst, src)
				one.Do(func() { close(done) })
			}
			go carry(to, from)
			go carry(from, to)
			<-done
		}()
	}
}

// playMachine is the first process of a machine. It does not return.
func playMachine(m machine) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(1)
	}
	if err := m.begin(); err != nil {
		fail(err)
	}
	for address, path := range m.Links {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fail(err)
		}
		go forward(listener, "unix", path)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	_ = os.Unsetenv(machineEnv)
	agent := exec.Command(m.Command[0], m.Command[1:]...)
	agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := agent.Start(); err != nil {
		fail(err)
	}
	go func() {
		<-stop
		_ = agent.Process.Signal(syscall.SIGTERM)
	}()
	for { // it is everybody's parent in the end
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == agent.Process.Pid {
			os.Exit(status.ExitStatus())
		}
	}
}

// begin makes what is its own: the list of its processes, its boot, its loopback.
func (m machine) begin() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	boot, err := os.CreateTemp("", "boot")
	if err != nil {
		return err
	}
	defer os.Remove(boot.Name())
	if _, err := fmt.Fprintln(boot, m.BootID); err != nil {
		return err
	}
	if err := errors.Join(boot.Close(), unix.Mount(boot.Name(), "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, "")); err != nil {
		return fmt.Errorf("a boot of its own: %w", err)
	}
	return testkit.RaiseLoopback()
}

// atHome says whether this process is on the harness's own machine, whose network is named.
func atHome(network string) bool {
	own, err := os.Readlink("/proc/self/ns/net")
	return err != nil || own == network
}
