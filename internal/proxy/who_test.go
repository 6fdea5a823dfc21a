package proxy

import (
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: the access log says who asked for which key's backend, of requests, of upgraded connections and of what the proxy refused
// itself, and holds no token.
func TestAccessLogSaysWhoAndWhichKey(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.AccessLog = true })
	for name, handler := range map[string]messages.RouteResponse{
		"plain": ready("be-plain", backend(t, echo)), "socket": ready("be-socket", backend(t, echoSocket)),
		"away": {BackendID: "be-away", Status: messages.Ready, Address: "127.0.0.1:1", Cluster: cluster, ValidForMS: 3_600_000},
	} {
		handler.User, handler.Key = "user of "+name, &messages.Key{Name: "key of " + name, Namespace: "rooms", Tag: "v2"}
		handler.SecretToken = "the secret"
		w.worker.route(token(name), handler)
	}
	w.leads(token("old"), "be-old", echo) // an older worker does not say the key
	w.get("/" + token("plain") + "/")
	w.get("/" + token("away") + "/")
	w.get("/" + token("old") + "/")
	c, _ := w.socket("/" + token("socket") + "/")
	must(t, c.CloseNow())
	for _, part := range []string{
		`backend_id=be-plain user="user of plain" key="key of plain" namespace=rooms`,
		`backend_id=be-away user="user of away" key="key of away" namespace=rooms`,
		`backend_id=be-socket user="user of socket" key="key of socket" namespace=rooms`,
		`backend_id=be-old user="" key="" namespace=""`,
	} {
		testkit.Eventually(t, part, func() bool { return w.log.contains(part) })
	}
	for _, secret := range []string{token("plain"), token("away"), token("socket"), token("old"), "the secret"} {
		if w.log.contains(secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
