package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// words gives what a proxy says to the workers, as it comes.
func (w *world) words() <-chan messages.KeepaliveRequest {
	w.t.Helper()
	words := make(chan messages.KeepaliveRequest, 10_000)
	_, err := w.worker.nc.Subscribe(messages.SubjectAnyKeepalive, func(msg *nats.Msg) {
		req, err := messages.Decode[messages.KeepaliveRequest](msg.Data)
		if err != nil {
			w.t.Errorf("keepalive: %v", err)
		}
		words <- req
	})
	must(w.t, err)
	must(w.t, w.worker.nc.FlushWithContext(testkit.Context(w.t)))
	return words
}

// The demand: silence is not absence, so a proxy says also that nobody is connected.
func TestNobodyIsToldToo(t *testing.T) {
	w := newWorld(t, often)
	words := w.words()
	w.get("/" + token("none") + "/")
	for range 3 {
		if word := testkit.Receive(t, words, "a keepalive"); len(word.Backends) != 0 || word.Partial {
			t.Fatalf("told %+v", word)
		}
	}
}

// The demand: who is not named in a word that names all is not connected any more. So a word about
// those who have just come does not claim to name all, nor does any part of a long one but its end,
// which is not told when one of them was not taken.
func TestOnlyAWordThatNamesAllClaimsTo(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.KeepaliveInterval = time.Hour })
	words := w.words()
	w.leads(token("a"), "be-a", echo)
	w.get("/" + token("a") + "/")
	if word := testkit.Receive(t, words, "who came"); !word.Partial || len(word.Backends) != 1 {
		t.Fatalf("told %+v", word)
	}
	for i := range messages.MaxKeepalives + 1 { // which nobody needs to be told at once
		id := fmt.Sprintf("be-%d", i)
		w.proxy.activity.mu.Lock()
		w.proxy.activity.known[id] = knownHere
		w.proxy.activity.mu.Unlock()
		w.proxy.activity.opened(id)
	}
	failing := func(failing bool) {
		w.worker.mu.Lock()
		defer w.worker.mu.Unlock()
		w.worker.failing = failing
	}
	failing(true)
	w.proxy.tell(t.Context(), w.proxy.activity.connected, false)
	if word := testkit.Receive(t, words, "the first part"); !word.Partial || len(word.Backends) != messages.MaxKeepalives {
		t.Errorf("the first part names %d, partial: %v", len(word.Backends), word.Partial)
	}
	failing(false) // and nothing else is said: it was not taken
	w.proxy.tell(t.Context(), w.proxy.activity.connected, false)
	if word := testkit.Receive(t, words, "the first part"); !word.Partial || len(word.Backends) != messages.MaxKeepalives {
		t.Errorf("the first part names %d, partial: %v", len(word.Backends), word.Partial)
	}
	if word := testkit.Receive(t, words, "the last part"); word.Partial || len(word.Backends) == 0 {
		t.Errorf("the last part names %d, partial: %v", len(word.Backends), word.Partial)
	}
	for i := range messages.MaxKeepalives + 1 {
		w.proxy.activity.closed(fmt.Sprintf("be-%d", i))
	}
}
