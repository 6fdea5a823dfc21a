package cli

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: Docker is restarted under the agent. What ran ended with it, and is reported so;
// what is asked for meanwhile fails and says why; nothing is left, and the drone goes on.
func TestDockerRestartedUnderTheAgent(t *testing.T) {
	needsDocker(t)
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		t.Skip("an engine of its own takes root and dockerd")
	}
	if !testkit.OwnNetwork(t) {
		return
	}
	engine := testkit.NewEngine(t, "")
	t.Setenv("DOCKER_HOST", engine.Host)
	s := newSite(t).with(t, "docker")
	room := map[string]any{"image": s.image("/room"), "pull_policy": "Never"}
	s.agent(t.TempDir(), "")
	first := s.connect("doc", room)
	s.awaitStatus(first.BackendID, messages.Ready)

	engine.Crash()
	away := s.connect("meanwhile", room)
	end := s.awaitStatus(away.BackendID, messages.Terminated)
	if end.Reason != messages.ReasonStartFailed || !strings.Contains(end.Message, "Cannot connect to the Docker daemon") {
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
	testkit.Eventually(t, patience, "the containers are those two", func() bool { return strings.Count(shell(t, s.containers()), "\n") == 2 })
}
