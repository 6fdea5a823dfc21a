package cli

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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
	proxy := begin(t, "proxy", "--listen", "127.0.0.1:0", "--nats", "nats://"+away, "--metrics-addr", "127.0.0.1:0", "--log-format", "json")
	url := proxy.stderr.await(t, `"url":"(http://[^"]+)"`)[1]
	if status, text := get(t, url+"/healthz"); status != http.StatusOK || text != "alive\n" {
		t.Errorf("healthz says %d %s", status, text)
	}
	if status, text := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || text != "not ready: starting: waiting for NATS\n" {
		t.Errorf("readyz says %d %s", status, text)
	}
	if _, text := get(t, url+"/metrics"); !strings.Contains(text, "jetway_proxy_requests_total") || strings.Contains(text, "jetway_worker_") {
		t.Errorf("metrics say %s", text)
	}
	proxy.stop()
	proxy.ends(ExitOK)
}

// Asked to end, it says so where browsers' traffic is steered, serves a moment longer, and ends.
func TestProxyDrains(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectAnyRoute: func([]byte) any { return messages.Errorf(messages.NotFound, "no such token") },
	})
	// The moment is longer where it was too short for us to look.
	for moment := time.Second; !drains(t, w, moment); moment *= 2 {
		if moment > testkit.Patience {
			t.Fatal("the proxy cannot be looked at while it drains")
		}
	}
}

// drains runs a proxy to its end, and says whether it could be looked at meanwhile.
func drains(t *testing.T, w *fakeWorker, moment time.Duration) bool {
	t.Helper()
	command := begin(t, "proxy", "--listen", "127.0.0.1:0", "--nats", w.url, "--metrics-addr", "127.0.0.1:0", "--drain-delay", moment.String(),
		"--access-log", "--log-format", "json")
	health := command.stderr.await(t, `"url":"(http://[^"]+)"`)[1]
	proxy := "http://" + command.stderr.await(t, `"msg":"serving","proxy":"[^"]+","address":"([^"]+)"`)[1]
	for _, url := range []string{proxy + "/ready", health + "/readyz"} {
		testkit.Eventually(t, url, func() bool { status, _ := get(t, url); return status == http.StatusOK })
	}
	command.stop()
	var gone error
	// Once said, a readiness holds for half a second.
	testkit.Eventually(t, "/readyz to say why not", func() bool {
		var status int
		var text string
		status, text, gone = tryGet(health + "/readyz")
		return gone != nil || status == http.StatusServiceUnavailable && strings.Contains(text, "draining")
	})
	if gone == nil {
		var status int
		if status, _, gone = tryGet(proxy + "/ready"); gone == nil {
			if status != http.StatusServiceUnavailable {
				t.Errorf("/ready says %d", status)
			}
			command.stderr.await(t, `"msg":"request".*"path":"/ready"`)
		}
	}
	command.ends(ExitOK)
	return gone == nil
}
