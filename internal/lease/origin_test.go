package lease

import (
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// A request that says nothing gets what the worker says, where that is possible; one that asks for what is impossible is refused.
func TestHostOf(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		what, cluster string
		asked         *bool
		usual         bool
		subdomain     string
		label         string // "?": a random one
		origin, bad   bool
	}{
		{what: "nothing", cluster: "rooms.test"},
		{what: "a subdomain", cluster: "rooms.test", subdomain: "doc", label: "doc"},
		{what: "asked for", cluster: "rooms.test", asked: &yes, label: "?", origin: true},
		{what: "asked for by a name", cluster: "rooms.test", asked: &yes, subdomain: "doc", label: "doc", origin: true},
		{what: "the worker's way", cluster: "localhost:80", usual: true, label: "?", origin: true},
		{what: "not the worker's way", cluster: "localhost:80", asked: &no, usual: true},
		{what: "the worker's way is impossible", cluster: "10.0.0.1:80", usual: true},
		{what: "impossible", cluster: "10.0.0.1:80", asked: &yes, bad: true},
	} {
		label, origin, err := hostOf(&messages.SpawnConfig{Subdomain: c.subdomain, Origin: c.asked}, c.cluster, c.usual)
		if random := len(label) == labelChars; random != (c.label == "?") || (!random && label != c.label) || origin != c.origin {
			t.Errorf("%s: %q, %v", c.what, label, origin)
		}
		if (messages.KindOf(err) == messages.BadRequest) != c.bad {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
