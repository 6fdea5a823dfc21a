package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
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
	ctx, stop := context.WithCancel(t.Context())
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- Run(ctx, Process{
			Args:   []string{"worker", "--postgres", "host=/nowhere", "--nats", "nats://" + away, "--metrics-addr", "127.0.0.1:0", "--log-format", "json"},
			Stdout: io.Discard, Stderr: stderr,
		})
	}()
	url := stderr.await(t, `"url":"(http://[^"]+)"`)[1]
	if status, text := get(t, url+"/healthz"); status != http.StatusOK || text != "alive\n" {
		t.Errorf("healthz says %d %s", status, text)
	}
	if status, text := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || text != "not ready: starting: waiting for NATS\n" {
		t.Errorf("readyz says %d %s", status, text)
	}
	if _, text := get(t, url+"/metrics"); !strings.Contains(text, "go_goroutines") {
		t.Errorf("metrics say %s", text)
	}
	stop()
	wantCode(t, <-code, ExitOK)
}
