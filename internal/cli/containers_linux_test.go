package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: a container that exits before it is ready ends as terminated, start-failed, with
// its exit code and its last output lines in the message; and nothing of it is left.
func TestContainerThatExitsBeforeItIsReadySaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t).with(t, "docker")
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
	testkit.Eventually(t, "its container is removed", func() bool { return shell(t, s.containers()) == "" })
}

// I3: the agent of a drone is killed in the middle of a pull, which takes credentials. The
// next one goes on with it, and then they are nowhere any more. Nobody has been told them, but that
// the image is pulled.
func TestI3PullGoesOnUnderTheNextAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t).with(t, "docker")
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
	select {
	case <-shop.asked:
	case <-time.After(patience):
		t.Fatal("the image was not asked for")
	}
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
	told.await(t, `"status":"ready"`)
	if strings.Contains(told.String(), shop.password) {
		t.Errorf("the password is told:\n%s", told)
	}
}

// I1: the agent of a drone is killed, and none comes back: its containers are killed at their
// hard deadline, before their leases end. The next agent reports it, and removes them.
func TestI1ContainersDoNotOutliveTheirLeases(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *dev.Config) { c.Terms.TTL = 15 * time.Second }).with(t, "docker")
	data := t.TempDir()
	agent, session := s.agent(data, "")
	resp := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never"})
	s.awaitStatus(resp.BackendID, messages.Ready)
	state := func() string { return shell(t, s.containers()+" | xargs docker inspect --format {{.State.Status}}") }
	_ = agent.Process.Kill()
	_ = agent.Wait()
	if code, text := get(t, resp.URL+"info"); code != http.StatusOK {
		t.Fatalf("without the agent it answers %d %s", code, text)
	}
	testkit.Eventually(t, "the container is killed", func() bool {
		free := s.status(resp.BackendID).Status == messages.Terminated
		killed := state() == "exited\n"
		if free && !killed {
			t.Fatal("it runs, and its key is free")
		}
		return killed
	})
	s.agent(data, session)
	if end := s.awaitStatus(resp.BackendID, messages.Terminated); end.Reason != messages.ReasonKeyExpired && end.Reason != messages.ReasonLost {
		t.Errorf("ended as %+v", end)
	}
	testkit.Eventually(t, "its container is removed", func() bool { return shell(t, s.containers()) == "" })
}

// shell runs a command and gives what it says.
func shell(t *testing.T, command string) string {
	t.Helper()
	said, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, said)
	}
	return string(said)
}

// containers is the command that lists those of the drone.
func (s site) containers() string {
	return "docker ps --all --quiet --filter label=io.jetway.drone=" + s.drone
}

// image makes an image of the room, which runs as told.
func (s site) image(entrypoint ...string) string {
	s.t.Helper()
	ref := "jetway-cli-test-" + s.drone
	shell(s.t, "tar -C "+s.root+` -c room | docker import --change 'ENTRYPOINT `+string(messages.Encode(entrypoint))+`' --change 'ENV HOST=0.0.0.0' - `+ref)
	s.t.Cleanup(func() { shell(s.t, s.containers()+" | xargs -r docker rm --force --volumes; docker rmi --force "+ref) })
	return ref
}

func (s site) connect(key string, executable map[string]any) *messages.ConnectResponse {
	s.t.Helper()
	resp, err := bus.Request[messages.ConnectResponse](s.t.Context(), s.nc, messages.SubjectConnect, messages.ConnectRequest{
		Key:         &messages.Key{Name: key},
		SpawnConfig: &messages.SpawnConfig{Pool: s.runtime, Executable: messages.Encode(executable)},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return &resp
}

// status is what the workers know of a backend.
func (s site) status(backend string) messages.BackendInfo {
	s.t.Helper()
	info, err := bus.Request[messages.BackendInfo](s.t.Context(), s.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

// awaitStatus waits until a backend has got to a status, or ended.
func (s site) awaitStatus(backend string, status messages.Status) messages.State {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var last messages.State
	for event, err := range bus.Watch(ctx, s.nc, backend) {
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

// shop is a registry with an image of the room, which lets its user in alone, and
// gives no layer before open is closed.
type shop struct {
	image          string
	user, password string
	open, asked    chan struct{}
	stock          http.Handler
}

func (s site) registry() *shop {
	s.t.Helper()
	shop := &shop{
		user: "reader", password: "of-" + s.drone,
		open: make(chan struct{}), asked: make(chan struct{}, 1),
		stock: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))),
	}
	server := httptest.NewServer(shop)
	s.t.Cleanup(server.Close)
	shop.image = strings.TrimPrefix(server.URL, "http://") + "/room:1"
	ref, err := name.ParseReference(shop.image)
	var img v1.Image
	if err == nil {
		img, err = roomImage(s.root)
	}
	if err == nil {
		err = remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: shop.user, Password: shop.password}))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		shell(s.t, s.containers()+" | xargs -r docker rm --force --volumes; docker rmi --force "+shop.image)
	})
	return shop
}

func roomImage(root string) (v1.Image, error) {
	room, err := os.ReadFile(filepath.Join(root, "room"))
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: "room", Mode: 0o755, Size: int64(len(room))}); err != nil {
		return nil, err
	}
	if _, err := writer.Write(room); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.Config(img, v1.Config{Entrypoint: []string{"/room"}, Env: []string{"HOST=0.0.0.0"}})
}

// ServeHTTP is the registry.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != s.user || password != s.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "UNAUTHORIZED", "message": "who are you?"}}})
		return
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		select {
		case s.asked <- struct{}{}:
		default:
		}
		select {
		case <-s.open:
		case <-r.Context().Done():
			return
		}
	}
	s.stock.ServeHTTP(w, r)
}
