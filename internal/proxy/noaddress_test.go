package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: who visits a backend that is ready and has no address is told so at once, also who was held until it
// was ready. He used to be held until the ready timeout.
func TestBackendWithoutAddressIsABadGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.worker.route(token("a"), ready("b-a", ""))
	bare := func(got answer) {
		t.Helper()
		if got.status != http.StatusBadGateway || !strings.Contains(got.body, "no address") {
			t.Errorf("the visitor got %d %s", got.status, got.body)
		}
	}
	bare(w.get("/" + token("a") + "/"))

	starting := ready("b-b", "")
	starting.Status = messages.Starting
	w.worker.route(token("b"), starting)
	held := make(chan answer, 1)
	go func() { held <- w.get("/" + token("b") + "/") }()
	testkit.Eventually(t, "the visitor is held", func() bool { return w.proxy.held.count() == 1 })
	w.worker.reaches("b-b", messages.Ready, "")
	bare(testkit.Receive(t, held, "an answer"))
}
