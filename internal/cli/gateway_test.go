package cli

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// The user of gateways in deploy/nats may do all that a gateway does: connect, list, end, and stream events and output.
func TestTheUserOfGatewaysMayDoAllThatAGatewayDoes(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.role("worker", "worker", "--name", "wo-1", "--postgres", pgtest.Database(t), "--default-cluster", "jetway.test:80").await(t, "answering requests")
	g.role("dr-a", "drone", "--name", "dr-a", "--cluster", "jetway.test:80", "--runtime", "fake", "--grace", "1s")
	file := filepath.Join(t.TempDir(), "tokens")
	token, stderr, code := jetway(t, "gateway", "token", "ops", "--scope", "connect,read,operate,templates", "--tokens", file)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if lines, err := os.ReadFile(file); err != nil || strings.Contains(string(lines), strings.TrimSpace(token)) || !strings.Contains(string(lines), `"name":"ops"`) {
		t.Errorf("the file of tokens has %s, %v", lines, err)
	}
	out := g.role("gateway", "gateway", "--name", "gw-1", "--listen", "127.0.0.1:0", "--tokens", file)
	url := "http://" + out.await(t, `"msg":"serving".*"address":"([^"]+)"`)[1]
	open := func(method, path, body, accept string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(testkit.Context(t), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + strings.TrimSpace(token), "Content-Type": "application/json", "Jetway-Timeout": "60s", "Accept": accept} {
			r.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	ask := func(method, path, body, accept string) (int, string) {
		t.Helper()
		resp := open(method, path, body, accept)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	defer http.DefaultClient.CloseIdleConnections()
	testkit.Eventually(t, "the drone takes spawns", func() bool {
		_, drones := ask("GET", "/v1/drones", "", "application/json")
		return strings.Contains(drones, `"ready":true`)
	})
	if status, body := ask("POST", "/v1/connect?wait=ready", `{"key":{"name":"doc"},"spawn_config":{"id":"b1","executable":{"fake":{"print":["hello"]}}}}`, "application/json"); status != 200 || !strings.Contains(body, `"status":"ready"`) {
		t.Fatalf("connect: %d %s", status, body)
	}
	if status, body := ask("POST", "/v1/templates", `{"name":"doc","executable":{}}`, "application/json"); status != 200 {
		t.Errorf("put a template: %d %s", status, body)
	}
	stream := open("GET", "/v1/events", "", "text/event-stream")
	if status, body := ask("POST", "/v1/backends/b1/sleep", "", "application/json"); status != 200 || body != `{"asleep":true,"nap":1}` {
		t.Errorf("sleep: %d %s", status, body)
	}
	said := bufio.NewScanner(stream.Body)
	for said.Scan() && said.Text() != "event: sleep" {
	}
	if !said.Scan() || !strings.Contains(said.Text(), `"nap":1`) {
		t.Errorf("the stream says %q of its sleep, %v", said.Text(), said.Err())
	}
	_ = stream.Body.Close()
	if status, body := ask("POST", "/v1/terminate", `{"backend_id":"b1"}`, "application/json"); status != 200 {
		t.Errorf("terminate: %d %s", status, body)
	}
	// Streams end with the backend.
	for path, has := range map[string]string{"/v1/backends/b1/events": `"status":"terminated"`, "/v1/backends/b1/logs": `"line":"hello"`, "/pub/b/b1/status-stream": "id: terminated"} {
		if status, body := ask("GET", path, "", "text/event-stream"); status != 200 || !strings.Contains(body, has) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestGatewayRefusesWrongUse(t *testing.T) {
	t.Parallel()
	for args, why := range map[string]string{
		"--listen 0.0.0.0:0":                                           "jetway gateway token",
		"--listen 127.0.0.1:0 --name px-1":                             "--name",
		"--listen 127.0.0.1:0 --rate 0":                                "--rate",
		"--listen 127.0.0.1:0 --tokens /does/not/exist":                "no such file",
		"--listen 127.0.0.1:0 --forward-auth nonsense":                 "http",
		"--listen 127.0.0.1:0 --tokens a --forward-auth http://a.test": "one of them",
		"token x --scope admin":                                        "scopes",
	} {
		_, stderr, code := jetway(t, append([]string{"gateway"}, strings.Fields(args)...)...)
		if code != ExitUsage || !strings.Contains(stderr, why) {
			t.Errorf("jetway gateway %s: exit code %d, %s", args, code, stderr)
		}
	}
}
