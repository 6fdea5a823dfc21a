package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// A proxy that waits for a NATS server is alive, not ready, and says so.
func TestProxyWithoutNATSIsAliveAndNotReady(t *testing.T) {
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
			Args:   []string{"proxy", "--listen", "127.0.0.1:0", "--nats", "nats://" + away, "--metrics-addr", "127.0.0.1:0", "--log-format", "json"},
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
	if _, text := get(t, url+"/metrics"); !strings.Contains(text, "jetway_proxy_requests_total") || strings.Contains(text, "jetway_worker_") {
		t.Errorf("metrics say %s", text)
	}
	stop()
	wantCode(t, <-code, ExitOK)
}

// Asked to end, it says so where browsers' traffic is steered, serves a moment longer, and ends.
func TestProxyDrains(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectAnyRoute: func([]byte) any { return messages.Errorf(messages.NotFound, "no such token") },
	})
	ctx, stop := context.WithCancel(t.Context())
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- Run(ctx, Process{
			Args: []string{
				"proxy", "--listen", "127.0.0.1:0", "--nats", w.url, "--metrics-addr", "127.0.0.1:0", "--drain-delay", "2s",
				"--access-log", "--log-format", "json",
			},
			Stdout: io.Discard, Stderr: stderr,
		})
	}()
	health := stderr.await(t, `"url":"(http://[^"]+)"`)[1]
	proxy := "http://" + stderr.await(t, `"msg":"serving","proxy":"[^"]+","address":"([^"]+)"`)[1]
	for _, url := range []string{proxy + "/ready", health + "/readyz"} {
		testkit.Eventually(t, url, func() bool { status, _ := get(t, url); return status == http.StatusOK })
	}
	stop()
	// Once said, a readiness holds for half a second.
	testkit.Eventually(t, "/readyz to say why not", func() bool {
		status, text := get(t, health+"/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "draining")
	})
	status, _ := get(t, proxy+"/ready")
	if status != http.StatusServiceUnavailable {
		t.Errorf("/ready says %d", status)
	}
	stderr.await(t, `"msg":"request".*"path":"/ready"`)
	wantCode(t, <-code, ExitOK)
}
