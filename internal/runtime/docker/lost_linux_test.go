package docker_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// mute is the engine, but that it never says that a container has ended. With dying set each container ends
// before the engine is heard of it, which goes on to say what it said then: that it runs.
type mute struct {
	relay
	dying bool

	mu   sync.Mutex
	said map[string][]byte
}

// ServeHTTP passes a request on, but no word of an end.
func (m *mute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/wait"):
		<-r.Context().Done()
	case m.dying && strings.HasSuffix(r.URL.Path, "/json") && strings.Contains(r.URL.Path, "/containers/"):
		m.inspect(w, r)
	default:
		m.relay.ServeHTTP(w, r)
	}
}

func (m *mute) inspect(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := m.said[r.URL.Path]
	if said == nil {
		answer := httptest.NewRecorder()
		m.relay.ServeHTTP(answer, r)
		said = answer.Body.Bytes()
		var found container.InspectResponse
		if json.Unmarshal(said, &found) == nil && found.State != nil && found.State.Running {
			_ = syscall.Kill(found.State.Pid, syscall.SIGKILL)
			for syscall.Kill(found.State.Pid, 0) == nil { // until it is reaped
				<-time.After(time.Millisecond)
			}
			m.said[r.URL.Path] = said
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(said)
}

func newMute(t *testing.T, dying bool) *mute {
	t.Helper()
	socket, ok := strings.CutPrefix(theEngine(t).DaemonHost(), "unix://")
	if !ok {
		testkit.LeaveOut(t, "a test of an engine that loses its words takes one at a Unix socket", "unset DOCKER_HOST")
	}
	return &mute{relay: relay{"unix", socket}, dying: dying, said: map[string][]byte{}}
}

// I6: a container elsewhere ends also where the engine never tells: it is looked, again and again.
func TestI6EndThatAnEngineElsewhereNeverTellsIsFound(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newMute(t, false))
	t.Cleanup(server.Close)
	s := newStage(t, func(c *docker.Config) { c.Engine = strings.Replace(server.URL, "http://", "tcp://", 1) })
	if exit := s.exit(s.start(s.spec("exit 3"))); exit.Code != 3 {
		t.Errorf("ended with %v", exit)
	}
}

// I6: a container ends also where its process was gone before anybody held it, and the engine says for ever
// that it runs, as one whose shim was killed does.
func TestI6EndOfWhichTheEngineHasNotHeardIsFound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "e")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(newMute(t, true))
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	s := newStage(t, func(c *docker.Config) { c.Engine, c.OutputGrace = "unix://"+path, 100*time.Millisecond })
	if exit := s.exit(s.start(s.spec("quiet"))); exit.Code != -1 || !strings.Contains(exit.Message, "its process is gone") {
		t.Errorf("ended with %v", exit)
	}
}
