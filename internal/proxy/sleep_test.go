package proxy

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
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
	testkit.Eventually(t, "both requests to be over", func() bool { return len(w.proxy.activity.allPassages()) == 0 })
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

// The demand: nobody waits for what an operator has put to sleep, however lately the proxy has said that somebody was connected: who is there when the event of
// the sleep comes is said at once, and so is who comes after it.
func TestI3WhoIsThereOrComesWhenABackendIsPutToSleepIsSaidAtOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.KeepaliveInterval = time.Hour })
	words := w.words()
	entered, release := make(chan struct{}), make(chan struct{})
	route := ready("be-a", backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(entered)
			<-release
		}
	}))
	w.worker.route(token("a"), route) // of a backend that does not sleep by itself
	said := func(what string) {
		t.Helper()
		if word := testkit.Receive(t, words, what); !word.Partial || !slices.Equal(word.Backends, []string{"be-a"}) {
			t.Errorf("%s: told %+v", what, word)
		}
	}
	nap := int64(1)
	sleep := func() {
		must(t, w.worker.nc.Publish(messages.SleepEventSubject("be-a"), messages.Encode(messages.NewSleepEvent("be-a", time.Now(), nap))))
		must(t, w.worker.nc.Publish(messages.SleepEventSubject("be-a"), messages.Encode(messages.NewSleepEvent("be-a", time.Now(), nap+1))))
		nap += 2
	}
	w.get("/" + token("a") + "/")
	said("who came")
	sleep()
	testkit.Eventually(t, "the proxy to have heard it", func() bool {
		w.proxy.activity.mu.Lock()
		defer w.proxy.activity.mu.Unlock()
		return w.proxy.activity.known["be-a"] == knownAsleep
	})
	testkit.Eventually(t, "the first request to be over", func() bool { return len(w.proxy.activity.allPassages()) == 0 })
	w.proxy.tell(t.Context(), w.proxy.activity.connected, false)
	if word := testkit.Receive(t, words, "that nobody is here"); word.Partial {
		t.Errorf("told %+v", word)
	}
	got := make(chan answer, 1)
	go func() { got <- w.get("/" + token("a") + "/wait") }()
	testkit.Receive(t, entered, "the request to be under way")
	said("who comes after it")
	sleep()
	said("who is there")
	close(release)
	testkit.Receive(t, got, "the answer")
}
