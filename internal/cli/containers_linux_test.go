package cli

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// The demand: a container that exits before it is ready ends as terminated, start-failed, with
// its exit code and its last output lines in the message; and nothing of it is left.
func TestContainerThatExitsBeforeItIsReadySaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t, "docker")
	image := s.image("/room", "-no-such-flag")
	s.agent(t.TempDir(), "")
	resp := s.connect("fails", map[string]any{"image": image, "pull_policy": "Never"})
	got := s.awaitStatus(resp.BackendID, messages.Terminated)
	if got.Reason != messages.ReasonStartFailed || got.Kind != "" || got.LastStatus >= messages.Ready || got.ExitCode == nil || *got.ExitCode != 2 {
		t.Errorf("ended as %+v", got)
	}
	if !strings.Contains(got.Message, "flag provided but not defined: -no-such-flag") {
		t.Errorf("its last words are not in %q", got.Message)
	}
	s.awaitNoContainers()
}

// I3: the agent of a drone is killed in the middle of a pull, which takes credentials. The
// next one goes on with it, and then they are nowhere any more. Nobody has been told them, but that
// the image is pulled.
func TestI3PullGoesOnUnderTheNextAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, "docker")
	shop := s.registry()
	told := newOutput()
	s.stderr = told
	for _, subject := range []string{messages.SubjectAllEvents, messages.SubjectAllLogs} {
		if _, err := s.nc.Subscribe(subject, func(m *nats.Msg) { _, _ = told.Write(append(m.Data, '\n')) }); err != nil {
			t.Fatal(err)
		}
	}
	data := t.TempDir()
	agent, session := s.agent(data, "", "--log-level", "debug")
	resp := s.connect("pulls", map[string]any{"image": shop.image, "credentials": map[string]string{"username": shop.user, "password": shop.password}})
	testkit.Receive(t, shop.asked, "that the image is asked for")
	s.awaitStatus(resp.BackendID, messages.Loading)
	testkit.Eventually(t, "its status says that it is pulled", func() bool {
		return strings.HasPrefix(s.status(resp.BackendID).Message, "pulling "+shop.image)
	})
	_ = agent.Process.Kill()
	_ = agent.Wait()
	s.agent(data, session, "--log-level", "debug")
	close(shop.open)
	s.awaitStatus(resp.BackendID, messages.Ready)
	if code, text := get(t, resp.URL+"info"); code != http.StatusOK {
		t.Errorf("it answers %d %s", code, text)
	}
	err := filepath.WalkDir(data, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(path)
		if bytes.Contains(file, []byte(shop.password)) {
			t.Errorf("the password is left in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	told.await(t, "pulling "+shop.image)
	told.await(t, `"backend_id":"`+resp.BackendID+`"[^\n]*"status":"ready"`)
	if strings.Contains(told.String(), shop.password) {
		t.Errorf("the password is told:\n%s", told)
	}
}

// I1: the agent of a drone is killed, and none comes back: its containers are killed at their
// hard deadline, before their leases end. The next agent reports it, and removes them.
func TestI1ContainersDoNotOutliveTheirLeases(t *testing.T) {
	t.Parallel()
	dockertest.Needs(t)
	s := newSiteIn(t, briefStack(t), "docker")
	data := t.TempDir()
	agent, session := s.agent(data, "")
	resp := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never"})
	s.awaitStatus(resp.BackendID, messages.Ready)
	_ = agent.Process.Kill()
	_ = agent.Wait()
	if code, text := get(t, resp.URL+"info"); code != http.StatusOK && s.container().State.Running {
		t.Fatalf("without the agent it answers %d %s", code, text)
	}
	free, watched := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(testkit.Context(t))
	go func() {
		defer close(watched)
		for event := range jetwayclient.New(s.nc).Watch(ctx, resp.BackendID) { //nolint:errcheck // it ends with ctx
			if event.Status == messages.Terminated {
				close(free)
			}
		}
	}()
	defer func() { cancel(); <-watched }()
	killed := s.engine.ContainerWait(ctx, s.container().ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-killed.Result:
	case <-free:
		if s.container().State.Running {
			t.Error("it runs, and its key is free")
		}
		testkit.Receive(t, killed.Result, "the end of the container")
	case err := <-killed.Error:
		t.Fatal(err)
	}
	s.agent(data, session)
	if end := s.awaitStatus(resp.BackendID, messages.Terminated); end.Reason != messages.ReasonKeyExpired && end.Reason != messages.ReasonLost {
		t.Errorf("ended as %+v", end)
	}
	s.awaitNoContainers()
}

// key is one of the drone's alone.
func (s *site) key(name string) *messages.Key { return &messages.Key{Name: name, Namespace: s.drone} }

// connect asks again while there is no drone: one whose heartbeat is late, as on a machine that stood still, is given nothing.
func (s *site) connect(key string, executable any) (resp *messages.ConnectResponse) {
	s.t.Helper()
	testkit.Eventually(s.t, "a drone takes a backend", func() bool {
		var err error
		if resp, err = s.tryConnect(key, executable); err != nil && messages.KindOf(err) != messages.NoDroneAvailable {
			s.t.Fatal(err)
		}
		return err == nil
	})
	return resp
}

func (s *site) tryConnect(key string, executable any) (*messages.ConnectResponse, error) {
	resp, err := jetwayclient.Request[messages.ConnectResponse](testkit.Context(s.t), s.nc, messages.SubjectConnect, messages.ConnectRequest{
		Key:         s.key(key),
		SpawnConfig: &messages.SpawnConfig{Pool: s.pool, Executable: messages.Encode(executable)},
	})
	return &resp, err
}

// status is what the workers know of a backend.
func (s *site) status(backend string) messages.BackendInfo {
	s.t.Helper()
	info, err := jetwayclient.Request[messages.BackendInfo](testkit.Context(s.t), s.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

// awaitStatus waits until a backend has got to a status, or ended.
func (s *site) awaitStatus(backend string, status messages.Status) messages.State {
	s.t.Helper()
	var last messages.State
	for event, err := range jetwayclient.New(s.nc).Watch(testkit.Context(s.t), backend) {
		switch last = event.State; {
		case err != nil:
			s.t.Fatalf("wait for %s: %v", status, err)
		case last.Status == status:
			return last
		case last.Status == messages.Terminated:
			s.t.Fatalf("instead of getting to %s it ended: %+v", status, last)
		}
	}
	s.t.Fatalf("the last of it, instead of %s, is %+v", status, last)
	return last
}
