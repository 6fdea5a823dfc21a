package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// otherEnv names a jetway of another build, which make mixed compiles.
const otherEnv = "JETWAY_TEST_OTHER"

// I1, I5 and I7: a system of another build is upgraded to this one, part by part: a worker, which migrates, the proxy, the drone's agent,
// and the last worker. Meanwhile no connect is refused, and what a browser has open to a backend goes on.
func TestI1I5I7SystemOfAnotherBuildIsUpgradedPartByPart(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := os.Getenv(otherEnv)
	if other == "" {
		testkit.Long(t) // the same with two of this build
		other = self
	}
	t.Parallel()
	nats, dsn := natstest.Server(t).URL(), pgtest.Empty(t)
	s := newSiteIn(t, &dev.Stack{NATSURL: nats}, "process")
	address := s.freeAddress()
	s.stack.Cluster = address
	worker := func(binary, name string) *exec.Cmd {
		return s.role(binary, "worker", "--nats", nats, "--postgres", dsn, "--name", name, "--default-cluster", address)
	}
	oldWorker := worker(other, "wo-old")
	s.awaitWorker()
	s.proxyAt(address, other, "px-old")
	agent := func(binary, data, before string) (cmd *exec.Cmd, session string) {
		cmd = s.role(binary, "drone", "--nats", nats, "--name", s.drone, "--pool", s.pool, "--cluster", address, "--process-root", roomRoot(t), "--data-dir", data)
		testkit.Eventually(t, "the drone takes spawns", func() bool {
			d := s.info()
			session = d.Session
			return d.Ready && session != before
		})
		return cmd, session
	}
	data := t.TempDir()
	oldAgent, session := agent(other, data, "")
	room := json.RawMessage(`{"command":["room"]}`)
	resp := s.connect("doc", room)
	ws, err := testkit.WebSocket(t, resp.URL+"ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.count(ws, 1)

	// From here on somebody asks all the time: for the key that is held, and now and then for another one.
	var asking sync.WaitGroup
	var asked atomic.Int64
	var heldOnly atomic.Bool
	done := make(chan struct{})
	stop := sync.OnceFunc(func() { close(done); asking.Wait() })
	defer stop()
	asking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			key := "doc"
			if i%50 == 10 && !heldOnly.Load() {
				key = fmt.Sprintf("doc-%d", i)
			}
			got, err := s.tryConnect(key, room)
			if err != nil || key == "doc" && got.BackendID != resp.BackendID {
				t.Errorf("who asks for %s gets %+v, %v", key, got, err)
			}
			asked.Add(1)
		}
	})
	count := 1
	goesOn := func(what string) {
		t.Helper()
		until := asked.Load() + 40
		testkit.Eventually(t, what+", and who asks gets links", func() bool { return asked.Load() >= until || t.Failed() })
		count++
		s.count(ws, count)
		if b := s.status(resp.BackendID); b.Status != messages.Ready {
			t.Fatalf("%s, and the backend is %+v", what, b)
		}
	}

	worker(self, "wo-new")
	testkit.Eventually(t, "two workers answer", func() bool {
		said := make(map[string]bool)
		for range 20 {
			reply, err := s.nc.Request("$SRV.PING.jetway", nil, testkit.Patience)
			if err != nil {
				t.Fatal(err)
			}
			said[string(reply.Data)] = true
		}
		return len(said) == 2
	})
	goesOn("a new worker has migrated")

	newAddress := s.freeAddress()
	s.proxyAt(newAddress, self, "px-new")
	request, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, "http://"+newAddress+resp.URL[len("http://"+address):]+"info", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = address
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("a new proxy answers %s", answer.Status)
	}

	heldOnly.Store(true) // for a moment no drone takes spawns
	goesOn("no other key is asked for")
	_ = oldAgent.Process.Kill()
	_ = oldAgent.Wait()
	agent(self, data, session)
	heldOnly.Store(false)
	goesOn("a new agent has taken over")

	s.ends(oldWorker)
	goesOn("the old worker has gone")
	stop()
	if _, err := insist[messages.BackendInfo](t, s.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: resp.BackendID}); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(resp.BackendID, messages.Terminated)
}

// role starts one, which ends with the test.
func (s *site) role(binary string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(binary, append([]string{"--log-level=warn"}, args...)...)
	cmd.Stderr = s.t.Output()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.ends(cmd) })
	return cmd
}

// ends ends a role, as an upgrade does.
func (s *site) ends(cmd *exec.Cmd) {
	s.t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("%v ended with %v", cmd.Args, err)
	}
}
