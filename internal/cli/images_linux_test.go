package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// openEngine asks the engine of DOCKER_HOST, or of the usual socket, what the drone has there,
// and removes it when the test ends, after the agents.
func (s *site) openEngine() {
	s.t.Helper()
	var err error
	if s.engine, err = client.New(client.FromEnv); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.removeContainers()
		_ = s.engine.Close()
	})
}

// ctx is for the engine, also when the test has ended and cleans up.
func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	s.t.Cleanup(cancel)
	return ctx
}

// containers are those of the drone.
func (s *site) containers() []container.Summary {
	s.t.Helper()
	list, err := s.engine.ContainerList(s.ctx(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", "io.jetway.drone="+s.drone),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}

// container is the only one.
func (s *site) container() container.InspectResponse {
	s.t.Helper()
	all := s.containers()
	if len(all) != 1 {
		s.t.Fatalf("%d containers", len(all))
	}
	got, err := s.engine.ContainerInspect(s.ctx(), all[0].ID, client.ContainerInspectOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return got.Container
}

// awaitContainers waits until all that are there now have got so far, or are gone.
func (s *site) awaitContainers(condition container.WaitCondition) {
	s.t.Helper()
	for _, c := range s.containers() {
		wait := s.engine.ContainerWait(s.ctx(), c.ID, client.ContainerWaitOptions{Condition: condition})
		select {
		case <-wait.Result:
		case err := <-wait.Error:
			if !errdefs.IsNotFound(err) {
				s.t.Errorf("wait until a container is %s: %v", condition, err)
			}
		}
	}
}

// awaitNoContainers waits until none is left.
func (s *site) awaitNoContainers() {
	s.t.Helper()
	s.awaitContainers(container.WaitConditionRemoved)
	if left := s.containers(); len(left) > 0 {
		s.t.Errorf("there are %+v", left)
	}
}

func (s *site) removeContainers() {
	s.t.Helper()
	for _, c := range s.containers() {
		_, err := s.engine.ContainerRemove(s.ctx(), c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			s.t.Error(err)
		}
	}
}

// image makes an image of the room, which runs as told.
func (s *site) image(entrypoint ...string) string {
	s.t.Helper()
	ref := "jetway-cli-test-" + s.drone
	archive, err := roomArchive(roomRoot(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	said, err := s.engine.ImageImport(s.ctx(), client.ImageImportSource{Source: bytes.NewReader(archive), SourceName: "-"}, ref,
		client.ImageImportOptions{Changes: []string{"ENTRYPOINT " + string(messages.Encode(entrypoint)), "ENV HOST=0.0.0.0"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.forget(ref)
	_, err = io.Copy(io.Discard, said)
	if err := errors.Join(err, said.Close()); err != nil {
		s.t.Fatal(err)
	}
	return ref
}

// forget removes an image when the test ends.
func (s *site) forget(ref string) {
	s.t.Cleanup(func() {
		s.removeContainers()
		_, err := s.engine.ImageRemove(s.ctx(), ref, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) {
			s.t.Error(err)
		}
	})
}

// roomArchive is an archive with the room alone.
func roomArchive(root string) ([]byte, error) {
	room, err := os.ReadFile(filepath.Join(root, "room"))
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	err = files.WriteHeader(&tar.Header{Name: "room", Mode: 0o755, Size: int64(len(room))})
	if err == nil {
		_, err = files.Write(room)
	}
	return archive.Bytes(), errors.Join(err, files.Close())
}

// shop is a registry with an image of the room, which lets its user in alone, and
// gives no layer before open is closed.
type shop struct {
	image          string
	user, password string
	open, asked    chan struct{}
	stock          http.Handler
}

func (s *site) registry() *shop {
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
		img, err = roomImage(roomRoot(s.t), s.drone)
	}
	if err == nil {
		err = remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: shop.user, Password: shop.password}))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.forget(shop.image)
	return shop
}

// roomImage is an image that no engine has, unless it has pulled just this one.
func roomImage(root, mark string) (v1.Image, error) {
	archive, err := roomArchive(root)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.Config(img, v1.Config{Entrypoint: []string{"/room"}, Env: []string{"HOST=0.0.0.0", "MARK=" + mark}})
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
