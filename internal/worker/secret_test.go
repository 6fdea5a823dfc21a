package worker_test

import (
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// The demand: neither a token nor a secret can be read out of the database, and both work: as they are given by connect, and as a proxy is
// told. For static tokens see TestNoStaticTokenIsInTheDatabase.
func TestNoTokenOrSecretIsInTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	spawned, joined := w.connect(spawnKey("k")), w.connect(spawnKey("k"))
	all := w.contents()
	for _, resp := range []messages.ConnectResponse{spawned, joined} {
		route, ok := w.route(resp.Token)
		if !ok || route.SecretToken != resp.SecretToken || len(resp.SecretToken) != 43 {
			t.Errorf("the secret %q is told as %q, found: %v", resp.SecretToken, route.SecretToken, ok)
		}
		if strings.Contains(all, resp.Token) || strings.Contains(all, resp.SecretToken) {
			t.Error("the database holds a token or a secret")
		}
	}
}
