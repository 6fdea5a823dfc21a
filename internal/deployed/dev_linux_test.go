//go:build deploy

package deployed

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// The demand: `jetway dev --runtime docker` leads to the shared room by the image of make images, and leaves no
// container behind.
func TestDevRunsContainers(t *testing.T) {
	if !dockertest.Network(t) {
		return
	}
	engine := dockertest.NewEngine(t, "")
	room := filepath.Join(t.TempDir(), "room")
	if err := testkit.Build(t.Context(), room, "github.com/jetway-project/jetway/cmd/room"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", engine.Host)
	sh(t, "tar -C "+filepath.Dir(room)+` -c room | docker import -c 'ENTRYPOINT ["/room"]' - jetway-room`)
	stack, nc := devOfContainers(t)
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
	testkit.Eventually(t, "no container is left", func() bool { return sh(t, "docker ps -q") == "" })
}

func sh(t *testing.T, line string) string {
	t.Helper()
	said, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, said)
	}
	return strings.TrimSpace(string(said))
}

// devOfContainers is what jetway dev --runtime docker starts, with the engine of DOCKER_HOST. The test stops it.
func devOfContainers(t *testing.T) (*dev.Stack, *nats.Conn) {
	t.Helper()
	data, err := os.MkdirTemp("", "jetway-dev")
	if err == nil {
		err = os.Chmod(data, 0o755) // Postgres runs as another user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	stack, err := dev.Start(testkit.Context(t), dev.Config{Data: data, Runtime: dev.RuntimeDocker, Grace: testkit.Patience / 4, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := stack.Dial(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return stack, nc
}

// The demand: the sandbox of deploy/examples is a container, by its Dockerfile and as its README asks for it. Code runs in it, finds what was
// left for it, and is held by its limits.
func TestExampleOfASandboxIsAContainer(t *testing.T) {
	if !dockertest.Network(t) {
		return
	}
	engine := dockertest.NewEngine(t, "")
	t.Setenv("DOCKER_HOST", engine.Host)
	t.Setenv("DOCKER_BUILDKIT", "0")
	const example = "../../deploy/examples/python/sandbox"
	sh(t, "docker import "+tool(t, "root.tar")+" python:3-slim") // stands in for it where no registry can be reached
	sh(t, "docker build -q -t sandbox "+example)
	readme, err := os.ReadFile(filepath.Join(example, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`(?s)--executable '(\{.*?\n *\})'`).FindSubmatch(readme)
	if asked == nil {
		t.Fatalf("%s does not say how to ask for one", example)
	}
	stack, nc := devOfContainers(t)
	resp, err := client.Request[messages.ConnectResponse](testkit.Context(t), nc, messages.SubjectConnect, messages.ConnectRequest{
		Key: &messages.Key{Name: "agent-1"}, SpawnConfig: &messages.SpawnConfig{Executable: asked[1]},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ code, want string }{
		{"print(6 * 7)", `"exit_code": 0, "stdout": "42\n"`},
		{"import os; open('left', 'w').write('here'); print(os.getuid() > 0)", `"stdout": "True\n"`},
		{"print(open('left').read())", `"stdout": "here\n"`},
		{"x = bytearray(512 << 20)", `"exit_code": -9`}, // it may have 256 MiB
	} {
		answer, err := http.Post(resp.URL+"run", "text/x-python", strings.NewReader(c.code))
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if !strings.Contains(string(said), c.want) {
			t.Errorf("%s: %s has no %s", c.code, said, c.want)
		}
	}
	nc.Close()
	if err := stack.Stop(testkit.Context(t)); err != nil {
		t.Error(err)
	}
}
