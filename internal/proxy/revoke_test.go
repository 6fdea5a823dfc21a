package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// of makes token lead to be-a as user.
func (w *world) of(token, user, address string) {
	rt := ready("be-a", address)
	rt.User = user
	w.worker.route(token, rt)
}

// mustBeCut waits until conn ends.
func mustBeCut(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s was not cut", what)
	}
}

func TestRevocationCutsWebSockets(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			open := func(path string) *websocket.Conn {
				c, _ := w.socket(path)
				return c
			}
			if secure {
				w = newTLSWorld(t)
				open = w.secureSocket
			}
			address := backend(t, echoSocket)
			ada1, ada2, bob := token("ada1"), token("ada2"), token("bob")
			w.of(ada1, "ada", address)
			w.of(ada2, "ada", address)
			w.of(bob, "bob", address)
			adas := []*websocket.Conn{open("/" + ada1 + "/"), open("/" + ada1 + "/"), open("/" + ada2 + "/")}
			bobs := open("/" + bob + "/")
			w.worker.forget(ada1)
			w.worker.forget(ada2)
			w.worker.revoke("be-a", new("ada"), "")
			for _, c := range adas {
				ctx := testkit.Context(t)
				if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
					t.Errorf("ada's WebSocket was not cut: %v", err)
				}
			}
			equal(t, "bob's echo", say(t, bobs, "still here"), "still here")
			testkit.Eventually(t, "ada's requests to end", func() bool { return w.inside() == 1 })
		})
	}
}

// Whatever a request is about when its token is revoked, it ends at once.
func TestRevocationCutsRequestsUnderWay(t *testing.T) {
	w := newWorld(t)
	inBackend := make(chan string, 10)
	address := backend(t, func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		inBackend <- r.URL.Path
		switch r.URL.Path {
		case "/streams":
			_, _ = io.WriteString(rw, "first")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		case "/floods":
			_, _ = io.CopyN(rw, zeros{}, 1<<40)
		case "/floods-length":
			rw.Header().Set("Content-Length", "1099511627776")
			_, _ = io.CopyN(rw, zeros{}, 1<<40)
		case "/takes":
			_, _ = io.Copy(io.Discard, r.Body)
		default: // never answers, takes nothing
			select {
			case <-r.Context().Done():
			case <-t.Context().Done(): // a server does not see its client leave before the body is read
			}
		}
	})
	ada, bob := token("ada"), token("bob")
	w.of(ada, "ada", address)
	w.of(bob, "bob", address)
	conns := make(map[string]net.Conn)
	for _, path := range []string{"/waits", "/streams", "/floods", "/floods-length"} {
		conns[path] = w.dial("GET /" + ada + path + " HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	}
	for _, path := range []string{"/takes", "/takes-nothing"} {
		conns[path] = w.dial("POST /" + ada + path + " HTTP/1.1\r\nHost: " + cluster + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	}
	bobs := w.dial("GET /" + bob + "/streams HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	for range len(conns) + 1 {
		testkit.Receive(t, inBackend, "all requests")
	}
	w.worker.forget(ada)
	w.worker.revoke("be-a", new("ada"), "")
	testkit.Eventually(t, "all but bob's to end", func() bool { return w.inside() == 1 })
	for path, conn := range conns {
		mustBeCut(t, path, conn)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bobs), nil)
	must(t, err)
	equal(t, "bob's status", resp.StatusCode, http.StatusOK)
	equal(t, "ada's status", w.get("/"+ada+"/").status, http.StatusGone)
}

// Over HTTP/2 only the stream is cut: others share its connection.
func TestRevocationCutsOneStreamOfHTTP2(t *testing.T) {
	w := newTLSWorld(t)
	address := backend(t, shout)
	ada, bob := token("ada"), token("bob")
	w.of(ada, "ada", address)
	w.of(bob, "bob", address)
	adas, adasFeed := io.Pipe()
	bobs, bobsFeed := io.Pipe()
	adasResp := w.secure(http.MethodPost, "/"+ada+"/", adas)
	bobsLines := bufio.NewReader(w.secure(http.MethodPost, "/"+bob+"/", bobs).Body)
	w.worker.revoke("be-a", new("ada"), "")
	if _, err := io.ReadAll(adasResp.Body); err == nil {
		t.Error("ada's stream ended as if nothing had happened")
	}
	_ = adasFeed.Close()
	_, err := io.WriteString(bobsFeed, "still here\n")
	must(t, err)
	line, err := bobsLines.ReadString('\n')
	must(t, err)
	equal(t, "bob's line", line, "still here!\n")
	_ = bobsFeed.Close()
}

func TestRevocationEndsHeldRequests(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.starting(tok, "be-a")
	got := w.held("/" + tok + "/")
	w.worker.forget(tok)
	w.worker.revoke("be-a", new("ada"), "")
	equal(t, "status", testkit.Receive(t, got, "the response").status, http.StatusGone)
}

// It was published while the proxy could not hear it.
func TestRevocationDuringAGapCutsAfterIt(t *testing.T) {
	w := newWorld(t)
	address := backend(t, echoSocket)
	ada, bob := token("ada"), token("bob")
	w.of(ada, "ada", address)
	w.of(bob, "bob", address)
	adas, _ := w.socket("/" + ada + "/")
	bobs, _ := w.socket("/" + bob + "/")
	w.link.Cut()
	testkit.Eventually(t, "the connection to break", func() bool { return !w.proxy.nc.IsConnected() })
	w.worker.forget(ada)
	w.worker.revoke("be-a", new("ada"), "")
	equal(t, "ada's echo while nobody knows", say(t, adas, "hello"), "hello")
	w.link.Heal()
	ctx := testkit.Context(t)
	if _, _, err := adas.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("ada's WebSocket was not cut: %v", err)
	}
	equal(t, "bob's echo", say(t, bobs, "still here"), "still here")
	testkit.Eventually(t, "bob's token to be remembered again", func() bool { return w.known() == 1 })
}

// A connection that was opened in time outlives its token, also across a gap.
func TestOpenConnectionsOutliveTheirTokens(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	rt := ready("be-a", backend(t, echoSocket))
	rt.ValidForMS = 300
	w.worker.route(tok, rt)
	c, _ := w.socket("/" + tok + "/")
	w.worker.forget(tok)
	testkit.Eventually(t, "the token to run out", func() bool {
		open := w.proxy.activity.passages("be-a")
		return w.get("/"+tok+"/").status == http.StatusGone && open[0].route.expired(w.proxy.routes.clock())
	})
	w.proxy.BusGap()
	testkit.Eventually(t, "the gap to be dealt with", func() bool { return len(w.proxy.gapped) == 0 })
	equal(t, "echo", say(t, c, "hello"), "hello")
	// But a revocation ends it: workers tell of every one.
	w.worker.revoke("be-a", new(""), "")
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the WebSocket was not cut")
	}
}

// The machine of a backend is gone: nothing ever comes from there again.
func TestWhatIsLeftOfAnEndedBackendIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.waits.ended = 10 * time.Millisecond })
	tok := token("a")
	w.worker.route(tok, ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mute\r\n\r\n")
		<-t.Context().Done()
	})))
	conn := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: mute\r\n\r\n")
	_, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	w.worker.reaches("be-a", messages.Terminated, "")
	mustBeCut(t, "the connection", conn)
	testkit.Eventually(t, "it to end", func() bool { return w.inside() == 0 })
}

// Also where the backend cannot even be reached.
func TestRevocationEndsADial(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.proxy.upstream.mu.Lock() // which whoever dials has had before
	w.proxy.upstream.dialer.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		<-ctx.Done() // nobody answers
		return ctx.Err()
	}
	w.proxy.upstream.mu.Unlock()
	w.of(tok, "ada", "127.0.0.1:9")
	conn := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	testkit.Eventually(t, "the dial", func() bool {
		list := w.proxy.activity.passages("be-a")
		if len(list) != 1 {
			return false
		}
		list[0].mu.Lock()
		defer list[0].mu.Unlock()
		return list[0].dialing != nil
	})
	w.worker.revoke("be-a", new("ada"), "")
	mustBeCut(t, "the request", conn)
	testkit.Eventually(t, "it to end", func() bool { return w.inside() == 0 })
}
