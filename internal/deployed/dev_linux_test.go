//go:build deploy

package deployed

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: `jetway dev --runtime docker` leads to the shared room by the image of make images, and leaves no
// container behind.
func TestDevRunsContainers(t *testing.T) {
	if !testkit.EngineNetwork(t) {
		return
	}
	engine := testkit.NewEngine(t, "")
	room := filepath.Join(t.TempDir(), "room")
	if err := testkit.Build(t.Context(), room, "github.com/jetway-project/jetway/cmd/room"); err != nil {
		t.Fatal(err)
	}
	docker := func(line string) string {
		t.Helper()
		said, err := exec.Command("sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, said)
		}
		return strings.TrimSpace(string(said))
	}
	t.Setenv("DOCKER_HOST", engine.Host)
	docker("tar -C " + filepath.Dir(room) + ` -c room | docker import -c 'ENTRYPOINT ["/room"]' - jetway-room`)
	data, err := os.MkdirTemp("", "jetway-dev")
	if err == nil {
		err = os.Chmod(data, 0o755) // Postgres runs as another user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	stack, err := dev.Start(testkit.Context(t), dev.Config{Data: data, Runtime: dev.RuntimeDocker, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := stack.Dial(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stack.Demo(testkit.Context(t), nc)
	if err != nil {
		t.Fatal(err)
	}
	if said := info(resp.URL); !strings.Contains(said, resp.BackendID) {
		t.Errorf("%s answers %q", resp.URL, said)
	}
	nc.Close()
	if err := stack.Stop(testkit.Context(t)); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "no container is left", func() bool { return docker("docker ps -q") == "" })
}
