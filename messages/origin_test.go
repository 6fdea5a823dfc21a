package messages_test

import (
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func TestURLs(t *testing.T) {
	for _, c := range []struct{ cluster, label, path, origin string }{
		{"rooms.test", "a", "https://a.rooms.test/T/", "https://a.rooms.test/.jetway/enter/T"},
		{"rooms.test:443", "a", "https://a.rooms.test:443/T/", "https://a.rooms.test:443/.jetway/enter/T"},
		{"localhost:9090", "a", "http://a.localhost:9090/T/", "http://a.localhost:9090/.jetway/enter/T"},
	} {
		if got := messages.BackendURL(c.cluster, c.label, "T"); got != c.path {
			t.Errorf("%s: %s, want %s", c.cluster, got, c.path)
		}
		if got := messages.EnterURL(c.cluster, c.label, "T"); got != c.origin {
			t.Errorf("%s: %s, want %s", c.cluster, got, c.origin)
		}
	}
}

// Below an address there are no hosts: who asks for one of his own is told so.
func TestOriginTakesAClusterWithAName(t *testing.T) {
	for cluster, named := range map[string]bool{
		"rooms.test": true, "localhost:9090": true, "10.0.0.1": false, "10.0.0.1:80": false, "[::1]:80": false,
	} {
		if messages.Named(cluster) != named {
			t.Errorf("%s is named: %v", cluster, !named)
		}
		_, err := messages.Decode[messages.ConnectRequest]([]byte(`{"spawn_config":{"executable":{},"origin":true,"cluster":"` + cluster + `"}}`))
		if (err == nil) != named {
			t.Errorf("%s: %v", cluster, err)
		}
	}
}
