package cli

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// heldByOne is a room that holds a lock for as long as it runs, and notes where another one has it.
const heldByOne = `#!/bin/sh
exec 9>>"$LOCK"
/usr/bin/flock -n 9 || echo "$SESSION_BACKEND_ID" >>"$LOCK.two"
exec "$ROOM"
`

// I1: a machine is replaced. An agent is cut off while its backend runs; another agent of its name, on another
// machine with an empty data directory, gets the name once the first is not heard, and the key once its lease has
// ended; at no time do two processes of the key run, as they themselves say. While the first is heard the second
// gets nothing, and says who has the name; so does the first when it comes back, which kills nothing.
func TestI1ReplacedMachineNeverRunsAKeyTwice(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "a machine of its own takes a network and a PID namespace", "run it as root")
	}
	bus, dsn := natstest.Server(t), pgtest.Database(t)
	begin(t, "--log-level=warn", "worker", "--nats", bus.URL(), "--postgres", dsn, "--default-cluster", "c.test",
		"--lease-ttl", (testkit.Patience / 12).String()) // 15 s, and more on a machine that is said to be slower
	s := newSiteIn(t, &dev.Stack{NATSURL: bus.URL(), Cluster: "c.test"}, "process")
	s.awaitWorker()

	root, lock := t.TempDir(), filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(filepath.Join(root, "held-by-one"), []byte(heldByOne), 0o755); err != nil {
		t.Fatal(err)
	}
	executable := map[string]any{
		"command": []string{"held-by-one"}, "env": map[string]string{"LOCK": lock, "ROOM": filepath.Join(roomRoot(t), "room")},
	}
	target := strings.TrimPrefix(bus.URL(), "nats://")
	link := testkit.NewFaultProxy(t, target)
	first := s.machine(exec.Command, "nats://"+link.Addr(), root)
	testkit.Eventually(t, "the first one takes spawns", func() bool { return s.info().Ready })
	held := s.connect("doc", executable)
	s.awaitStatus(held.BackendID, messages.Ready)
	session := s.info().Session

	second := s.elsewhere(target, root)
	said := second.await(t, `the name [a-z0-9-]+ is that of machine ([a-z0-9]+) [^\n]*this is machine ([a-z0-9]+)`)
	if said[1] == said[2] {
		t.Errorf("two machines are one: %s", said[0])
	}
	if now := s.info(); now.Session != session || s.status(held.BackendID).Status != messages.Ready {
		t.Fatalf("the second took the name of one that is heard: %+v", now)
	}

	link.Cut()
	testkit.Eventually(t, "the second one takes spawns", func() bool { now := s.info(); return now.Ready && now.Session != session })
	next := held
	testkit.Eventually(t, "the key is the second one's", func() bool {
		next = s.connect("doc", executable)
		return next.BackendID != held.BackendID
	})
	s.awaitStatus(next.BackendID, messages.Ready)
	if ended := s.status(held.BackendID); ended.Status != messages.Terminated || ended.Reason != messages.ReasonLost {
		t.Errorf("the first one's is %+v", ended.State)
	}

	link.Heal()
	first.await(t, `another machine has this drone's name[^\n]*is that of machine `+said[2])
	if now := s.status(next.BackendID); now.Status != messages.Ready {
		t.Errorf("the second one's is %+v", now.State)
	}
	if two, err := os.ReadFile(lock + ".two"); err == nil {
		t.Errorf("two processes of the key ran at a time: %s", two)
	}
}

// awaitWorker waits for an answer.
func (s *site) awaitWorker() {
	s.t.Helper()
	testkit.Eventually(s.t, "a worker answers", func() bool {
		_, err := s.nc.Request(messages.SubjectDrones, []byte("{}"), testkit.Patience)
		return err == nil
	})
}

// machine starts an agent with an empty data directory, by what makes its command, and gives what it says.
func (s *site) machine(command func(string, ...string) *exec.Cmd, url, root string) *output {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := command(self, "--log-level=warn", "drone", "--nats", url, "--name", s.drone, "--pool", s.pool, "--cluster", s.stack.Cluster,
		"--runtime", "process", "--process-root", root, "--data-dir", s.t.TempDir(), "--drain-on-exit", "--drain-timeout", "1ms")
	told := newOutput()
	cmd.Stderr = told
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		stop := syscall.SIGTERM
		if cmd.Args[0] == "unshare" { // which takes all with it
			stop = syscall.SIGKILL
		}
		_ = cmd.Process.Signal(stop)
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("an agent said:\n%s", told)
		}
	})
	return told
}

// elsewhere is machine on another machine: with a network and processes of its own. It reaches target, and nothing else.
func (s *site) elsewhere(target, root string) (told *output) {
	s.t.Helper()
	var running sync.WaitGroup
	made, over := make(chan error, 1), make(chan struct{})
	s.t.Cleanup(func() { close(over); running.Wait() }) // after the agent has ended
	var listener net.Listener
	running.Go(func() {
		runtime.LockOSThread() // for good: it is of no use to anybody else
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		if err == nil {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err == nil {
			told = s.machine(func(name string, args ...string) *exec.Cmd {
				return exec.Command("unshare", append([]string{"--pid", "--fork", "--mount-proc", "--kill-child", name}, args...)...)
			}, "nats://"+listener.Addr().String(), root)
		}
		made <- err
		<-over
	})
	if err := testkit.Receive(s.t, made, "another machine"); err != nil {
		s.t.Fatal("make another machine: ", err)
	}
	running.Go(func() { carryTo(listener, target) })
	s.t.Cleanup(func() { _ = listener.Close() })
	return told
}

// carryTo leads all connections to a listener to target until the listener is closed.
func carryTo(listener net.Listener, target string) {
	var links sync.WaitGroup
	defer links.Wait()
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", target)
		if err != nil {
			_ = from.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			links.Go(func() {
				_, _ = way[0].(*net.TCPConn).ReadFrom(way[1])
				_ = way[0].Close()
				_ = way[1].Close()
			})
		}
	}
}
