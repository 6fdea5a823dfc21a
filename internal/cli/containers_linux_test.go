package cli

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// I1: the agent of a drone is killed, and none comes back: its containers, one that was a spare as well, are killed at their
// hard deadline, before their leases end. The next agent reports it, and removes them.
func TestI1ContainersDoNotOutliveTheirLeases(t *testing.T) {
	t.Parallel()
	dockertest.Needs(t)
	s := newSiteIn(t, briefStack(t), "docker")
	data := t.TempDir()
	agent, session := s.agent(data, "")
	room := map[string]any{"image": s.image("/room"), "pull_policy": "Never"}
	cold := s.connect("doc", room)
	s.awaitStatus(cold.BackendID, messages.Ready)
	held := map[string]string{s.container().ID: cold.BackendID}
	template := "room-" + s.drone
	s.spared(template, room)
	claimed := s.claim("claimed", template)
	s.unspare(template)
	testkit.Eventually(t, "no spare is left", func() bool { return len(s.containers()) == 2 })
	for _, c := range s.containers() {
		if held[c.ID] == "" {
			held[c.ID] = claimed.BackendID
		}
	}
	_ = agent.Process.Kill()
	_ = agent.Wait()
	for _, resp := range []*messages.ConnectResponse{cold, claimed} {
		if code, text := get(t, resp.URL+"info"); code != http.StatusOK && s.running(held, resp.BackendID) {
			t.Fatalf("without the agent it answers %d %s", code, text)
		}
	}
	var seen sync.WaitGroup
	for id, backend := range held {
		seen.Go(func() { s.seeEnd(id, backend) })
	}
	seen.Wait()
	s.agent(data, session)
	for _, backend := range held {
		if end := s.awaitStatus(backend, messages.Terminated); end.Reason != messages.ReasonKeyExpired && end.Reason != messages.ReasonLost {
			t.Errorf("%s ended as %+v", backend, end)
		}
	}
	s.awaitNoContainers()
}

// running says whether the container of a backend runs.
func (s *site) running(held map[string]string, backend string) bool {
	return slices.ContainsFunc(s.containers(), func(c container.Summary) bool {
		return held[c.ID] == backend && c.State == container.StateRunning
	})
}

// seeEnd waits until a container has ended, and its backend's key is not free before.
func (s *site) seeEnd(id, backend string) {
	free, watched := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(testkit.Context(s.t))
	go func() {
		defer close(watched)
		for event := range jetwayclient.New(s.nc).Watch(ctx, backend) { //nolint:errcheck // it ends with ctx
			if event.Status == messages.Terminated {
				close(free)
			}
		}
	}()
	defer func() { cancel(); <-watched }()
	ended := s.engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-ended.Result:
		return
	case <-free:
	case err := <-ended.Error:
		s.t.Error(err)
		return
	}
	if s.running(map[string]string{id: backend}, backend) {
		s.t.Errorf("%s runs, and its key is free", backend)
	}
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		s.t.Error(err)
	}
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
	resp, err := insist[messages.ConnectResponse](s.t, s.nc, messages.SubjectConnect, messages.ConnectRequest{
		Key:         s.key(key),
		SpawnConfig: &messages.SpawnConfig{Pool: s.pool, Executable: messages.Encode(executable)},
	})
	return &resp, err
}

// status is what the workers know of a backend.
func (s *site) status(backend string) messages.BackendInfo {
	s.t.Helper()
	info, err := insist[messages.BackendInfo](s.t, s.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
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
