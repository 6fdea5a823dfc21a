package proxy

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: who is forwarded to a backend that may sleep, by a route that is remembered, is said at once, also after a word that named the backend with
// nobody connected: that wakes it. A backend that does not sleep is not said more often than before.
func TestWhoIsForwardedToWhatMaySleepIsSaidAtOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.KeepaliveInterval = time.Hour })
	words := w.words()
	release := make(chan struct{})
	open := func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-release
		}
	}
	for id, sleeps := range map[string]bool{"be-a": true, "be-b": false} {
		route := ready(id, backend(t, open))
		route.Sleeps = sleeps
		w.worker.route(token(id), route)
		w.get("/" + token(id) + "/")
		if word := testkit.Receive(t, words, "who came"); !slices.Equal(word.Backends, []string{id}) {
			t.Fatalf("told %+v", word)
		}
	}
	w.proxy.tell(t.Context(), w.proxy.activity.connected, false)
	if word := testkit.Receive(t, words, "who was here"); word.Partial || slices.Contains(word.IdleMS, 0) || len(word.Backends) != 2 {
		t.Fatalf("told %+v", word)
	}
	got := make(chan answer, 2)
	for _, id := range []string{"be-b", "be-a"} {
		go func() { got <- w.get("/" + token(id) + "/wait") }()
		testkit.Eventually(t, "the request to be under way", func() bool { return len(w.proxy.activity.passages(id)) == 1 })
	}
	word := testkit.Receive(t, words, "who is forwarded")
	if !word.Partial || !slices.Equal(word.Backends, []string{"be-a"}) || !slices.Equal(word.IdleMS, []int64{0}) {
		t.Errorf("told %+v", word)
	}
	close(release)
	for range 2 {
		if a := testkit.Receive(t, got, "the answer"); a.status != http.StatusOK {
			t.Errorf("answered with %d", a.status)
		}
	}
}
