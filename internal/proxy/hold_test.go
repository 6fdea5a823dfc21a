package proxy

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// starting makes token lead to a backend that is not ready yet.
func (w *world) starting(token, id string) {
	rt := ready(id, "")
	rt.Status = messages.Starting
	w.worker.route(token, rt)
}

// held starts a request and returns when it waits for its backend.
func (w *world) held(path string) <-chan answer {
	w.t.Helper()
	got := make(chan answer, 1)
	go func() { got <- w.get(path) }()
	testkit.Receive(w.t, w.worker.asked, "the question")
	testkit.Eventually(w.t, "the request to be held", func() bool { return w.waiting() > 0 })
	return got
}

func (w *world) waiting() int {
	w.proxy.news.mu.Lock()
	defer w.proxy.news.mu.Unlock()
	n := 0
	for _, watch := range w.proxy.news.waiting {
		n += watch.waiters
	}
	return n
}

func TestHeldUntilReady(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	got := w.held("/" + tok + "/x")
	w.worker.reaches("be-a", messages.Waiting, "127.0.0.1:1")
	w.worker.reaches("be-other", messages.Ready, "127.0.0.1:1")
	equal(t, "questions while it starts", w.worker.asks(), 0)
	w.worker.reaches("be-a", messages.Ready, backend(t, echo))
	res := testkit.Receive(t, got, "the response")
	equal(t, "status", res.status, http.StatusOK)
	equal(t, "questions when ready", w.worker.asks(), 1)
	equal(t, "watches left", w.waiting(), 0)
}

// The event comes between the worker's look and the proxy's wait.
func TestReadyWhileTheAnswerIsUnderWay(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	release := w.worker.block()
	defer release()
	got := make(chan answer, 1)
	go func() { got <- w.get("/" + tok + "/") }()
	testkit.Receive(t, w.worker.asked, "the question")
	w.worker.reaches("be-a", messages.Ready, backend(t, echo))
	testkit.Eventually(t, "the event", func() bool { return w.proxy.news.mark() == 1 })
	release()
	equal(t, "status", testkit.Receive(t, got, "the response").status, http.StatusOK)
}

func TestManyHeldForOneBackendAskOnce(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { equal(t, "status", w.get("/"+tok+"/").status, http.StatusOK) })
	}
	testkit.Eventually(t, "all to be held", func() bool { return w.waiting() == 50 })
	w.worker.asks()
	address := backend(t, echo)
	release := w.worker.block()
	defer release()
	w.worker.reaches("be-a", messages.Ready, address)
	testkit.Receive(t, w.worker.asked, "the question")
	testkit.Eventually(t, "all to be woken", func() bool { return w.waiting() == 0 })
	release()
	all.Wait()
	if n := w.worker.asks(); n > 1 {
		t.Errorf("%d further questions", n)
	}
}

func TestHeldTooLong(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.ReadyTimeout = 50 * time.Millisecond })
	w.starting(token("a"), "be-a")
	equal(t, "status", w.get("/"+token("a")+"/").status, http.StatusGatewayTimeout)
	equal(t, "watches left", w.waiting(), 0)
}

func TestHeldBackendEnds(t *testing.T) {
	for _, last := range []messages.Status{messages.Terminating, messages.Terminated} {
		w := newWorld(t)
		tok := token("a")
		w.starting(tok, "be-a")
		got := w.held("/" + tok + "/")
		w.worker.reaches("be-a", last, "")
		equal(t, last.String(), testkit.Receive(t, got, "the response").status, http.StatusGone)
	}
}

func TestHeldAcrossAGap(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	got := w.held("/" + tok + "/")

	w.link.Cut()
	testkit.Eventually(t, "the connection to break", func() bool { return !w.proxy.nc.IsConnected() })
	// Ready while nobody hears it.
	w.worker.route(tok, ready("be-a", backend(t, echo)))
	w.link.Heal()
	equal(t, "status", testkit.Receive(t, got, "the response").status, http.StatusOK)
}

func TestHeldClientLeaves(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	conn := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	testkit.Eventually(t, "the request to be held", func() bool { return w.waiting() == 1 })
	_ = conn.Close()
	testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 && w.waiting() == 0 })
}

func TestHeldRequestsBodyArrives(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	got := make(chan answer, 1)
	go func() {
		got <- w.raw("POST /" + tok + "/x HTTP/1.1\r\nHost: " + cluster + "\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
	}()
	testkit.Eventually(t, "the request to be held", func() bool { return w.waiting() == 1 })
	w.worker.reaches("be-a", messages.Ready, backend(t, echo))
	equal(t, "body", testkit.Receive(t, got, "the response").body, "POST /x host="+cluster+" body=hello")
}

func TestHeldStillChecksTheHost(t *testing.T) {
	w := newWorld(t)
	w.starting(token("a"), "be-a")
	equal(t, "status", w.get("/"+token("a")+"/", "Host", "other.test").status, http.StatusForbidden)
}

// One that is slow to start does not keep those who wait for others from waiting, nor does one client the others (I8).
func TestHeldAreBoundedByBackendAndByClient(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxHeld = 16; trusting(c) }) // so 2 a backend, 4 a client
	for i := range 4 {
		w.starting(token(fmt.Sprint(i)), fmt.Sprint("be-", i))
	}
	client, all := 0, 0
	hold := func(link int) {
		t.Helper()
		all++
		w.dial(fmt.Sprintf("GET /%s/ HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n", token(fmt.Sprint(link)), cluster, client))
		testkit.Eventually(t, "the request to be held", func() bool { return w.proxy.held.count() == all })
	}
	refused := func(link int) {
		t.Helper()
		got := w.get("/"+token(fmt.Sprint(link))+"/", "X-Forwarded-For", fmt.Sprint("192.0.2.", client))
		equal(t, "status", got.status, http.StatusServiceUnavailable)
	}
	hold(0)
	hold(0)
	refused(0) // the backend has its part
	hold(1)
	hold(1)
	refused(2) // the client has its part
	client = 1
	refused(0)
	hold(2)
}

// Browsers open WebSockets to one address one after the other: one whose backend is being started is
// answered in a moment, so that the others are not held.
func TestUpgradesAreHeldBriefly(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.upgrade = 20 * time.Millisecond })
	tok := token("a")
	w.starting(tok, "be-a")
	ask := "GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	got := w.raw(ask)
	equal(t, "status", got.status, http.StatusServiceUnavailable)
	equal(t, "Retry-After", got.header.Get("Retry-After"), "1")
	plain := w.held("/" + tok + "/") // which waits
	w.worker.reaches("be-a", messages.Ready, backend(t, echo))
	equal(t, "status of what waited", testkit.Receive(t, plain, "the response").status, http.StatusOK)
}
