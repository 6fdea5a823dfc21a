package cli

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	status, text, err := tryGet(url)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

// tryGet is get where nobody may be listening.
func tryGet(url string) (status int, text string, err error) {
	client := http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// A worker that waits for a NATS server is alive, not ready, and says so.
func TestWorkerWithoutNATSIsAliveAndNotReady(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := nobody.Addr().String()
	_ = nobody.Close()
	worker := begin(t, "worker", "--postgres", "host=/nowhere", "--nats", "nats://"+away, "--metrics-addr", "127.0.0.1:0", "--log-format", "json")
	url := worker.stderr.await(t, `"url":"(http://[^"]+)"`)[1]
	if status, text := get(t, url+"/healthz"); status != http.StatusOK || text != "alive\n" {
		t.Errorf("healthz says %d %s", status, text)
	}
	if status, text := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || text != "not ready: starting: waiting for NATS\n" {
		t.Errorf("readyz says %d %s", status, text)
	}
	if _, text := get(t, url+"/metrics"); !strings.Contains(text, "go_goroutines") {
		t.Errorf("metrics say %s", text)
	}
	worker.stop()
	worker.ends(ExitOK)
}
