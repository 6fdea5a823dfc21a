package cli

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"
	"github.com/moby/moby/client"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// I1, I5: the agent of a drone is killed and started again. What it runs goes on, and so
// does what browsers have open to it through the proxy; the next run of the agent renews
// its lease, and reports its end with what it ended with.
func TestI1I5SessionsOutliveTheirAgent(t *testing.T) {
	t.Parallel()
	t.Run("process", func(t *testing.T) {
		s := newSite(t, "process")
		s.outlives(`{"command":["room","-exit-code","7"]}`, func(_ string, pid int) {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("docker", func(t *testing.T) {
		s := newSite(t, "docker")
		image := s.image("/room", "-exit-code", "7")
		s.outlives(`{"image":"`+image+`","pull_policy":"Never"}`, func(id string, _ int) {
			if _, err := s.engine.ContainerKill(testkit.Context(t), "jetway-"+id, client.ContainerKillOptions{Signal: "TERM"}); err != nil {
				t.Error(err)
			}
		})
	})
}

// site is a drone with one runtime in a stack, whose agents are processes.
type site struct {
	t       *testing.T
	stack   *dev.Stack
	nc      *nats.Conn
	runtime string
	drone   string    // its name
	pool    string    // that it is in, and what is placed on it; nobody else's
	stderr  io.Writer // of its agents
	engine  *client.Client
	extra   []string // flags of its agents
}

// newSite is a drone in the stack that tests share.
func newSite(t *testing.T, runtime string) *site {
	t.Helper()
	if runtime == "docker" {
		dockertest.Needs(t)
	}
	return newSiteIn(t, sharedStack(t), runtime)
}

// newSiteIn is a drone in a stack.
func newSiteIn(t *testing.T, stack *dev.Stack, runtime string) *site {
	t.Helper()
	s := &site{t: t, stack: stack, runtime: runtime, drone: "dr-" + strings.ToLower(rand.Text()[:10]), stderr: os.Stderr}
	s.pool = s.drone
	s.nc = natstest.Conn(t, stack.NATSURL)
	if runtime == "docker" {
		s.openEngine()
	}
	return s
}

// agent starts an agent and waits until it takes spawns, in another session than before.
func (s *site) agent(data, before string, flags ...string) (cmd *exec.Cmd, session string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd = exec.Command(self, append([]string{
		"--log-level=warn", "drone", "--nats", s.stack.NATSURL, "--name", s.drone, "--pool", s.pool, "--cluster", s.stack.Cluster,
		"--runtime", s.runtime, "--process-root", roomRoot(s.t), "--data-dir", data, "--drain-on-exit", "--drain-timeout", "1ms",
	}, append(flags, s.extra...)...)...)
	cmd.Stderr = s.stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
	})
	testkit.Eventually(s.t, "the drone takes spawns", func() bool {
		d := s.info()
		session = d.Session
		return d.Ready && session != before
	})
	return cmd, session
}

// info is what the workers know of the drone; nothing while it is not registered.
func (s *site) info() messages.DroneInfo {
	s.t.Helper()
	drones, err := insist[messages.DronesResponse](s.t, s.nc, messages.SubjectDrones, messages.DronesRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range drones.Drones {
		if d.Drone == s.drone {
			return d
		}
	}
	return messages.DroneInfo{}
}

func (s *site) outlives(executable string, end func(id string, pid int)) {
	s.t.Helper()
	ctx := testkit.Context(s.t)
	data := s.t.TempDir()
	agent, session := s.agent(data, "")
	resp := s.connect("doc", json.RawMessage(executable))
	ws, err := testkit.WebSocket(s.t, resp.URL+"ws", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.count(ws, 1)
	_, text := get(s.t, resp.URL+"info")
	var room struct{ PID int }
	if err := json.Unmarshal([]byte(text), &room); err != nil {
		s.t.Fatalf("%v in %s", err, text)
	}

	_ = agent.Process.Kill()
	_ = agent.Wait()
	s.count(ws, 2) // while nobody looks after it
	_, next := s.agent(data, session)
	s.count(ws, 3) // under the next agent
	status, err := insist[messages.BackendInfo](s.t, s.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: resp.BackendID})
	if err != nil || status.Status != messages.Ready || next == session {
		s.t.Fatalf("under the next agent it is %+v, %v", status, err)
	}
	joined, err := insist[messages.ConnectResponse](s.t, s.nc, messages.SubjectConnect, messages.ConnectRequest{Key: s.key("doc")})
	if err != nil || joined.BackendID != resp.BackendID {
		s.t.Fatalf("its key leads to %+v, %v", joined, err)
	}

	end(resp.BackendID, room.PID)
	for event, err := range jetwayclient.New(s.nc).Watch(ctx, resp.BackendID) {
		if err != nil {
			s.t.Fatal(err)
		}
		if event.Status != messages.Terminated {
			continue
		}
		// The exit code of a process that is no child is told by newer kernels only.
		unknown := s.runtime == "process" && event.ExitCode == nil && strings.Contains(event.Message, "exit")
		if event.Reason != "" || event.Kind != "" || !unknown && (event.ExitCode == nil || *event.ExitCode != 7) {
			s.t.Errorf("ended as %+v", event.State)
		}
		return
	}
}

// count counts one up in the room, and waits until it shows.
func (s *site) count(ws *websocket.Conn, n int) {
	s.t.Helper()
	ctx := testkit.Context(s.t)
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"t":"inc"}`)); err != nil {
		s.t.Fatalf("the connection is gone: %v", err)
	}
	for {
		_, said, err := ws.Read(ctx)
		if err != nil {
			s.t.Fatalf("wait for the count %d: %v", n, err)
		}
		var event struct{ Count *int }
		if json.Unmarshal(said, &event) == nil && event.Count != nil && *event.Count == n {
			return
		}
	}
}
