package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/messages"
)

// The demand: Docker is restarted under the agent. What ran ended with it, and is reported so;
// what is asked for meanwhile fails and says why; nothing is left, and the drone goes on.
func TestDockerRestartedUnderTheAgent(t *testing.T) {
	testkit.Long(t) // two starts of an engine; TestSpawnsWhileDockerIsAway and TestI1EngineThatIsAway of the runtime show its parts
	dockertest.Needs(t)
	if !dockertest.Network(t) {
		return
	}
	engine := dockertest.NewEngine(t, "")
	t.Setenv("DOCKER_HOST", engine.Host)
	s := newSite(t, "docker")
	room := map[string]any{"image": s.image("/room"), "pull_policy": "Never"}
	s.agent(t.TempDir(), "")
	first := s.connect("doc", room)
	s.awaitStatus(first.BackendID, messages.Ready)

	engine.Crash()
	away := s.connect("meanwhile", room)
	end := s.awaitStatus(away.BackendID, messages.Terminated)
	if end.Reason != messages.ReasonStartFailed || !strings.Contains(end.Message, "docker cannot be reached") {
		t.Errorf("what is asked for without Docker ends as %+v", end)
	}
	engine.Start()
	if end := s.awaitStatus(first.BackendID, messages.Terminated); end.LastStatus != messages.Ready || end.ExitCode == nil && end.Message == "" {
		t.Errorf("what Docker has ended is reported as %+v", end)
	}

	for _, key := range []string{"doc", "meanwhile"} {
		resp := s.connect(key, room)
		s.awaitStatus(resp.BackendID, messages.Ready)
		if code, text := get(t, resp.URL+"info"); code != http.StatusOK {
			t.Errorf("it answers %d %s", code, text)
		}
	}
	testkit.Eventually(t, "the containers are those two", func() bool { return len(s.containers()) == 2 })
}

// Bad input: Docker is gone under a running agent. What runs goes on; a spawn ends as
// start-failed, saying so, and leaves nothing; and once Docker is back the next one starts.
func TestSpawnsWhileDockerIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, "docker")
	host := s.engine.DaemonHost()
	way := testkit.NewFaultProxy(t, strings.TrimPrefix(strings.TrimPrefix(host, "tcp://"), "unix://"))
	executable := map[string]any{"image": s.image("/room"), "pull_policy": "Never"}
	s.agent(t.TempDir(), "", "--docker-host", "tcp://"+way.Addr())
	before := s.connect("before", executable)
	s.awaitStatus(before.BackendID, messages.Ready)
	way.Cut()
	during := s.connect("during", executable)
	got := s.awaitStatus(during.BackendID, messages.Terminated)
	if got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, "docker cannot be reached") {
		t.Errorf("ended as %+v", got)
	}
	if code, text := get(t, before.URL+"info"); code != http.StatusOK {
		t.Errorf("what ran before answers %d %s", code, text)
	}
	way.Heal()
	after := s.connect("during", executable)
	if after.BackendID == during.BackendID {
		t.Error("the key still leads to what ended")
	}
	s.awaitStatus(after.BackendID, messages.Ready)
	if left := s.containers(); len(left) != 2 {
		t.Errorf("containers %+v", left)
	}
}
