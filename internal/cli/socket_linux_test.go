package cli

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// ownRuntime is the reference server of deploy/examples/runtime.
type ownRuntime struct {
	t                         *testing.T
	program, socket, root, at string
	said                      *output
	cmd                       *exec.Cmd
}

// newOwnRuntime starts one; change is made to its text.
func newOwnRuntime(t *testing.T, change ...string) *ownRuntime {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		testkit.LeaveOut(t, "the reference server of a runtime needs Python 3", "apt-get install python3")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "examples", "runtime", "runtime.py"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "jw") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &ownRuntime{t: t, program: filepath.Join(dir, "runtime.py"), socket: filepath.Join(dir, "s"), root: filepath.Join(dir, "root"), at: filepath.Join(dir, "state"), said: newOutput()}
	if err := os.Mkdir(o.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(roomRoot(t), "room"), filepath.Join(o.root, "room")); err != nil {
		t.Fatal(err)
	}
	program := strings.NewReplacer(change...).Replace(string(text))
	if err := os.WriteFile(o.program, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	o.start()
	t.Cleanup(o.kill)
	return o
}

func (o *ownRuntime) start() {
	o.t.Helper()
	o.cmd = exec.Command("python3", o.program, "--socket", o.socket, "--root", o.root, "--state", o.at)
	o.cmd.Stdout, o.cmd.Stderr = o.said, os.Stderr
	if err := o.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	testkit.Eventually(o.t, "the runtime's server listens", func() bool {
		conn, err := net.Dial("unix", o.socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (o *ownRuntime) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// pid is the process that a room runs in.
func (s *site) pid(url string) int {
	s.t.Helper()
	_, text := get(s.t, url+"info")
	var room struct{ PID int }
	if err := json.Unmarshal([]byte(text), &room); err != nil || room.PID == 0 {
		s.t.Fatalf("%v in %s", err, text)
	}
	return room.PID
}

// terminate asks the workers to end a backend, and gives how it did.
func (s *site) terminate(backend string, hard bool) messages.State {
	s.t.Helper()
	if _, err := insist[struct{}](s.t, s.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: backend, Hard: hard}); err != nil {
		s.t.Fatal(err)
	}
	return s.awaitStatus(backend, messages.Terminated)
}

// awaitReady waits until the drone says that it takes spawns, or why not.
func (s *site) awaitReady(reason string) {
	s.t.Helper()
	testkit.Eventually(s.t, "the drone is not ready for the reason "+reason, func() bool {
		d := s.info()
		return d.Ready == (reason == "") && strings.Contains(d.NotReady, reason)
	})
}

// I1, I5: a server of the operator's own, in 200 lines of Python, runs backends whole lives: their
// output and use are told; they end softly, hard, by themselves and by a signal; and they outlive
// the agent.
func TestI1I5ARuntimeOfOnesOwn(t *testing.T) {
	t.Parallel()
	s, o := newSite(t, "socket"), newOwnRuntime(t)
	t.Run("outlives the agent", func(t *testing.T) { // whose exit code is told then
		other := newSite(t, "socket") // a server may have several drones
		other.extra = []string{"--runtime-socket", o.socket}
		other.outlives(`{"command":["room","-exit-code","7"]}`, func(_ string, pid int) {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		})
	})
	used := make(chan *nats.Msg, 1000)
	if _, err := s.nc.ChanSubscribe("jetway.stats.>", used); err != nil {
		t.Fatal(err)
	}
	s.agent(t.TempDir(), "", "--runtime-socket", o.socket)
	one := s.connect("one", json.RawMessage(`{"command":["room","-print-lines","3"],"env":{"X":"y"}}`))
	s.awaitStatus(one.BackendID, messages.Ready)
	var said []string
	for line, err := range client.New(s.nc).Logs(testkit.Context(t), client.Logs{Backend: one.BackendID, Tail: -1, Ended: make(chan struct{})}) {
		if err != nil {
			t.Fatal(err)
		}
		if said = append(said, line.Line); len(said) == 4 {
			break
		}
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "line 3 of 3") || !strings.Contains(all, one.BackendID) {
		t.Errorf("it wrote %s", all)
	}
	for {
		m := testkit.Receive(t, used, "what it uses")
		var stats messages.Stats
		if json.Unmarshal(m.Data, &stats) == nil && stats.BackendID == one.BackendID {
			if stats.MemUsed == 0 {
				t.Errorf("it uses %+v", stats)
			}
			break
		}
	}
	if got := s.terminate(one.BackendID, false); got.Kind != messages.Soft || got.Reason != messages.ReasonExternal || got.ExitCode == nil || *got.ExitCode != 0 {
		t.Errorf("softly it ended as %+v", got)
	}
	two := s.connect("two", json.RawMessage(`{"command":["room","-ignore-term"]}`))
	s.awaitStatus(two.BackendID, messages.Ready)
	pid := s.pid(two.URL)
	if got := s.terminate(two.BackendID, true); got.Kind != messages.Hard || !gone(pid) {
		t.Errorf("hard it ended as %+v, gone: %v", got, gone(pid))
	}
	three := s.connect("three", json.RawMessage(`{"command":["room"]}`))
	s.awaitStatus(three.BackendID, messages.Ready)
	_ = syscall.Kill(s.pid(three.URL), syscall.SIGSEGV)
	if got := s.awaitStatus(three.BackendID, messages.Terminated); got.Kind != "" || got.ExitCode == nil && !strings.Contains(got.Message, "SIG") {
		t.Errorf("by a signal it ended as %+v", got)
	}
	four := s.connect("four", json.RawMessage(`{"command":["nothing"]}`))
	if got := s.awaitStatus(four.BackendID, messages.Terminated); got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, "no program 'nothing' below the runtime's root; install it") {
		t.Errorf("it ended as %+v", got)
	}
}

// I1, I6: the server is killed and started again. The drone says why it takes nothing meanwhile;
// what runs goes on and is taken over; what ended meanwhile is found to have ended.
func TestI1I6ARuntimeOfOnesOwnComesBack(t *testing.T) {
	t.Parallel()
	s, o := newSite(t, "socket"), newOwnRuntime(t)
	s.agent(t.TempDir(), "", "--runtime-socket", o.socket)
	stays, ends := s.connect("stays", json.RawMessage(`{"command":["room"]}`)), s.connect("ends", json.RawMessage(`{"command":["room"]}`))
	s.awaitStatus(stays.BackendID, messages.Ready)
	s.awaitStatus(ends.BackendID, messages.Ready)
	ws, err := testkit.WebSocket(t, stays.URL+"ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.count(ws, 1)
	pid := s.pid(ends.URL)

	o.kill()
	s.awaitReady("the runtime at " + o.socket)
	if _, err := s.tryConnect("new", json.RawMessage(`{"command":["room"]}`)); messages.KindOf(err) != messages.NoDroneAvailable {
		t.Errorf("while the server is away a connect says %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.count(ws, 2)
	if got := s.status(ends.BackendID); got.Status != messages.Ready {
		t.Errorf("while nobody can tell it is %s", got.Status)
	}

	o.start()
	s.awaitReady("")
	if got := s.awaitStatus(ends.BackendID, messages.Terminated); !strings.Contains(got.Message, "does not know it any more") {
		t.Errorf("it ended as %+v", got)
	}
	s.count(ws, 3)
	s.awaitStatus(s.connect("new", json.RawMessage(`{"command":["room"]}`)).BackendID, messages.Ready)
	if got := s.terminate(stays.BackendID, false); got.Kind != messages.Soft {
		t.Errorf("softly it ended as %+v", got)
	}
}

// I1: the agent is killed, and none comes back: the guard has the server end its backend, which no
// signal reaches, before its key is free.
func TestI1TheGuardEndsWhatARuntimeOfOnesOwnRuns(t *testing.T) {
	t.Parallel()
	s, o := newSiteIn(t, briefStack(t), "socket"), newOwnRuntime(t, `"pid": self.pid`, `"pid": 0`)
	hidden := "#!/bin/sh\nexec env -i PORT=$PORT HOST=$HOST " + filepath.Join(o.root, "room") + " -ignore-term\n"
	if err := os.WriteFile(filepath.Join(o.root, "hidden"), []byte(hidden), 0o700); err != nil {
		t.Fatal(err)
	}
	agent, _ := s.agent(t.TempDir(), "", "--runtime-socket", o.socket)
	resp := s.connect("doc", json.RawMessage(`{"command":["hidden"]}`))
	s.awaitStatus(resp.BackendID, messages.Ready)
	pid := s.pid(resp.URL)
	_ = agent.Process.Kill()
	_ = agent.Wait()
	if code, text := get(t, resp.URL+"info"); code != http.StatusOK && !gone(pid) {
		t.Fatalf("without the agent it answers %d %s", code, text)
	}
	s.awaitStatus(resp.BackendID, messages.Terminated) // its lease is over: its key is free
	if !gone(pid) {
		t.Errorf("its key is free, and process %d runs", pid)
	}
	o.said.await(t, "hard end of .*"+resp.BackendID)
}
