package drone_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// realSite is a site for agents in processes of their own, with real backends.
type realSite struct {
	*hub
	t      *testing.T
	config realAgent
}

func newRealSite(t *testing.T) *realSite {
	t.Helper()
	return newRealSiteIn(t, t.TempDir())
}

// newRealSiteIn is one whose agents have their data in a directory.
func newRealSiteIn(t *testing.T, dir string) *realSite {
	t.Helper()
	url := natstest.Server(t).URL()
	h := newHub(t, url)
	// A guard kills what has the drone's name and the backend's id, whoever started it.
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(dir))
	h.drone = fmt.Sprintf("dr-%x", sum.Sum64())
	s := &realSite{hub: h, t: t, config: realAgent{
		URL: url, Name: h.drone, Cluster: "localhost:9090", Dir: dir, State: dir + "/processes", Root: ownRoot(t),
	}}
	t.Cleanup(s.clear)
	return s
}

// clear ends what the last agent left, and its guard, which has nothing to guard any more then.
func (s *realSite) clear() {
	for _, pid := range s.running() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	boot, err := boottime.BootID()
	if err != nil {
		s.t.Error(err)
		return
	}
	j, _, err := journal.Open(journal.Config{Dir: s.config.Dir, Drone: s.drone, Machine: "another", Boot: boot}) // begins anew
	if err != nil {
		s.t.Error(err)
		return
	}
	_ = j.Close()
}

// process is an agent, or another process.
type osAgent struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	ended chan error
}

func (s *realSite) run(crash string) *osAgent { return startAgent(s.t, s.config, crash) }

func startAgent(t *testing.T, config realAgent, crash string) *osAgent {
	t.Helper()
	config.Crash = crash
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "TEST_AGENT="+string(messages.Encode(config)))
	return startProgram(t, cmd)
}

// startProgram starts an agent until the test ends.
func startProgram(t *testing.T, cmd *exec.Cmd) *osAgent {
	t.Helper()
	a := &osAgent{t: t, cmd: cmd, lines: make(chan string, 64), ended: make(chan error, 1)}
	stderr := testkit.Logger(t)
	said, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logged, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(logged); scanner.Scan(); {
			stderr.Info("agent: " + scanner.Text())
		}
	}()
	go func() {
		for scanner := bufio.NewScanner(said); scanner.Scan(); {
			a.lines <- scanner.Text()
		}
		<-read
		a.ended <- a.cmd.Wait()
	}()
	t.Cleanup(a.kill)
	return a
}

func (a *osAgent) awaitLine(want string) {
	a.t.Helper()
	for {
		select {
		case line := <-a.lines:
			if line == want {
				return
			}
		case err := <-a.ended:
			a.ended <- err
			a.t.Fatalf("the agent ended: %v", err)
		case <-time.After(testkit.Patience):
			a.t.Fatalf("the agent does not say %q", want)
		}
	}
}

func (a *osAgent) signal(s syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.t.Fatal(err)
	}
}

// wait waits for the agent's end.
func (a *osAgent) wait() error {
	a.t.Helper()
	select {
	case err := <-a.ended:
		a.ended <- err
		return err
	case <-time.After(testkit.Patience):
		a.t.Fatal("the agent does not end")
		return nil
	}
}

// kill is kill -9.
func (a *osAgent) kill() {
	a.signal(syscall.SIGKILL)
	_ = a.wait()
}

func dial(t *testing.T, url string) (*websocket.Conn, int) {
	t.Helper()
	ctx := testkit.Context(t)
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	_, first, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		t.Fatal(err)
	}
	return ws, pid
}

func talk(t *testing.T, ws *websocket.Conn, word string) {
	t.Helper()
	ctx := testkit.Context(t)
	if err := ws.Write(ctx, websocket.MessageText, []byte(word)); err != nil {
		t.Fatalf("the connection is gone: %v", err)
	}
	if _, heard, err := ws.Read(ctx); err != nil || string(heard) != word {
		t.Fatalf("heard %q, %v", heard, err)
	}
}

// running are the processes of a site's backends.
func (s *realSite) running() (pids []int) {
	s.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return string(v) == "JETWAY_DRONE="+s.drone }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *realSite) none() bool { return len(s.running()) == 0 }

// awaitNone waits until none of those that run now does.
func (s *realSite) awaitNone() {
	s.t.Helper()
	for _, pid := range s.running() {
		var process *procs.Ref
		id, err := procs.Identify(pid)
		if err == nil {
			process, err = procs.Open(id)
		}
		if errors.Is(err, procs.ErrGone) {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		giveUp := time.AfterFunc(testkit.Patience, process.Close)
		if err := process.Wait(); err != nil {
			s.t.Fatalf("process %d lives: %v", pid, err)
		}
		giveUp.Stop()
		process.Close()
	}
	if !s.none() {
		s.t.Fatalf("%v run on", s.running())
	}
}

func exit(t *testing.T, address string, code int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/exit?%d", address, code), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		t.Fatal("it does not exit")
	}
}

// noted is what the journal says of a backend, and until when it may live.
func (s *realSite) noted(id string) (state journal.State, lease journal.Lease) {
	s.t.Helper()
	boot, err := boottime.BootID()
	if err != nil {
		s.t.Fatal(err)
	}
	reader := journal.NewReader(s.config.Dir, boot)
	defer reader.Close()
	if err := reader.Read(); err != nil {
		s.t.Fatal(err)
	}
	state = reader.Backends[id]
	return state, reader.Until(state)
}
