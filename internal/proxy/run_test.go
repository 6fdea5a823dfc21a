package proxy

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func often(c *Config) { c.KeepaliveInterval = 10 * time.Millisecond }

func TestKeepaliveNamesWhoIsConnected(t *testing.T) {
	w := newWorld(t, often)
	socket, plain := token("socket"), token("plain")
	w.leads(socket, "be-socket", echoSocket)
	w.leads(plain, "be-plain", echo)
	c, _ := w.socket("/" + socket + "/")
	w.get("/" + plain + "/")
	// The open one again and again; the finished one until its end is told, and then no more.
	plainTold, alone := 0, 0
	for words := 0; alone < 10; words++ {
		if words == 10_000 {
			t.Fatalf("the finished one is told again and again, %d times", plainTold)
		}
		told := testkit.Receive(t, w.worker.keepalives, "a keepalive")
		switch {
		case slices.Contains(told, "be-plain"):
			plainTold, alone = plainTold+1, 0
		case slices.Contains(told, "be-socket"):
			alone++
		}
	}
	if plainTold < 1 {
		t.Error("the finished one was not told")
	}
	_ = c.CloseNow()
	testkit.Eventually(t, "the last close to be told", func() bool {
		w.proxy.activity.mu.Lock()
		defer w.proxy.activity.mu.Unlock()
		return len(w.proxy.activity.here) == 0 && len(w.proxy.activity.ended) == 0
	})
}

// Else a backend would be ended as idle under somebody who has just come.
func TestWhoComesIsToldAtOnceAndOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.KeepaliveInterval = time.Hour })
	for _, name := range []string{"be-a", "be-b"} {
		w.leads(token(name), name, echo)
		for range 3 {
			w.get("/" + token(name) + "/")
		}
		equal(t, "told", strings.Join(testkit.Receive(t, w.worker.keepalives, "a keepalive"), " "), name)
	}
	w.stop() // says a last word if something has closed since
	if n := len(w.worker.keepalives); n > 1 {
		t.Errorf("told %d times more", n)
	}
}

func TestKeepaliveThatFailsIsToldAgain(t *testing.T) {
	w := newWorld(t, often)
	w.worker.mu.Lock()
	w.worker.failing = true
	w.worker.mu.Unlock()
	tok := token("a")
	w.leads(tok, "be-a", echo)
	w.get("/" + tok + "/")
	for told := 0; told < 3; {
		if slices.Contains(testkit.Receive(t, w.worker.keepalives, "a keepalive"), "be-a") {
			told++
		}
	}
	w.worker.mu.Lock()
	w.worker.failing = false
	w.worker.mu.Unlock()
	testkit.Eventually(t, "it to be told", func() bool {
		backends, _ := w.proxy.activity.connected()
		return len(backends) == 0
	})
}

func TestActivityKeepsWhatClosesWhileTelling(t *testing.T) {
	a := newActivity()
	a.opened("be-a")
	a.opened("be-a")
	a.closed("be-a")
	told, mark := a.connected()
	equal(t, "idle while open", told["be-a"], stillness{})
	a.closed("be-a") // after the report was put together
	a.told([]string{"be-a"}, mark)
	again, mark := a.connected()
	if still, ok := again["be-a"]; len(again) != 1 || !ok || still.idle <= 0 {
		t.Errorf("told again: %v", again)
	}
	a.told([]string{"be-a"}, mark)
	last, _ := a.connected()
	equal(t, "left to tell", len(last)+len(a.here), 0)
}

func TestRunEndsWithOpenRequestsServed(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainTimeout, c.waits.flush = testkit.Patience, testkit.Patience })
	tok := token("a")
	inBackend, finish := make(chan struct{}), make(chan struct{})
	w.leads(tok, "be-a", func(w http.ResponseWriter, _ *http.Request) {
		close(inBackend)
		<-finish
		_, _ = io.WriteString(w, strings.Repeat("done", 1<<20))
	})
	got := make(chan answer, 1)
	go func() { got <- w.get("/" + tok + "/") }()
	testkit.Receive(t, inBackend, "the request")
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	testkit.Eventually(t, "new connections to be refused", w.refuses)
	close(finish)
	equal(t, "length of the response", len(testkit.Receive(t, got, "the response").body), 4<<20)
	testkit.Receive(t, stopped, "Run to end")
	equal(t, "last word", strings.Join(testkit.Receive(t, w.worker.keepalives, "the last keepalive"), " "), "be-a")
}

func TestRunCutsWhatDoesNotEnd(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond })
	socket, stuck, starting := token("socket"), token("stuck"), token("starting")
	w.leads(socket, "be-socket", echoSocket)
	inBackend := make(chan struct{})
	w.leads(stuck, "be-stuck", func(_ http.ResponseWriter, r *http.Request) {
		close(inBackend)
		<-r.Context().Done()
	})
	w.starting(starting, "be-starting")

	c, _ := w.socket("/" + socket + "/")
	cut := make(chan error, 2)
	for _, tok := range []string{stuck, starting} {
		go func() {
			resp, err := w.client.Get("http://" + cluster + "/" + tok + "/")
			if err == nil {
				_ = resp.Body.Close()
			}
			cut <- err
		}()
	}
	// And a client that takes nothing in.
	flood := token("flood")
	w.leads(flood, "be-flood", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 1<<40) })
	w.dial("GET /" + flood + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	testkit.Receive(t, inBackend, "the stuck request")
	testkit.Eventually(t, "all to be there", func() bool { return w.inside() == 4 && w.waiting() == 1 })

	w.stop()
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the WebSocket is still open")
	}
	for range 2 {
		if err := testkit.Receive(t, cut, "the requests to be cut"); err == nil {
			t.Error("a cut request got a response")
		}
	}
	var told []string
	for len(w.worker.keepalives) > 0 { // those before tell of who came
		told = <-w.worker.keepalives
	}
	equal(t, "last word", strings.Join(told, " "), "be-flood be-socket be-starting be-stuck")
}

// A client that takes nothing in from an upgraded connection is cut as well.
func TestRunCutsAStuckUpgrade(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.worker.route(tok, ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: flood\r\n\r\n")
		_, _ = io.CopyN(c, zeros{}, 1<<40)
	})))
	w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: flood\r\n\r\n")
	testkit.Eventually(t, "the upgrade", func() bool { return w.inside() == 1 && w.known() == 1 })
	w.stop()
}

func TestValidate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	for want, cfg := range map[string]Config{
		"proxy name":    {Name: "dr-a", Listener: l},
		"no listener":   {Name: "px-a"},
		"root redirect": {Name: "px-a", Listener: l, RootRedirect: "javascript:alert(1)"},
		"ready timeout": {Name: "px-a", Listener: l, ReadyTimeout: -1},
		"bytes":         {Name: "px-a", Listener: l, RouteBytes: -1},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %s, got %v", want, err)
		}
	}
	p, err := New(Config{Name: "px-a", Listener: l})
	must(t, err)
	equal(t, "ready timeout", p.cfg.ReadyTimeout, time.Minute)
}

func TestRunSaysWhyItCannotServe(t *testing.T) {
	nc := natstest.Conn(t, natstest.Server(t).URL())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_ = l.Close()
	p, err := New(Config{Name: "px-test", Listener: l})
	must(t, err)
	if err := p.Run(t.Context(), nc); err == nil {
		t.Error("Run serves on a closed listener")
	}
	nc.Close()
	if err := p.Run(t.Context(), nc); err == nil {
		t.Error("Run serves on a closed NATS connection")
	}
}

func TestOtherEventsAreIgnored(t *testing.T) {
	w := newWorld(t)
	must(t, w.worker.nc.Publish(messages.BackendEventSubject("be-a"), []byte("not JSON")))
	must(t, w.worker.nc.Publish(messages.BackendEventSubject("be-a"), []byte(`{"type":"another"}`)))
	w.worker.publish("be-a", messages.Ready)
	testkit.Eventually(t, "the proper event", func() bool { return w.proxy.news.mark() == 1 })
}
