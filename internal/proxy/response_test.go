package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// wire gives what the client gets, byte for byte, of what the backend says to one request.
func (w *world) wire(request, response string) string {
	w.t.Helper()
	w.worker.mu.Lock()
	tok := token(fmt.Sprint("wire", len(w.worker.routes)))
	w.worker.mu.Unlock()
	w.worker.route(tok, ready("be-a", rude(w.t, func(c net.Conn) { _, _ = io.WriteString(c, response) })))
	conn := w.dial(strings.ReplaceAll(request, "TOKEN", tok))
	got, err := io.ReadAll(conn)
	must(w.t, err)
	return string(got)
}

// Responses arrive as they were sent, but for what is about one connection.
func TestResponsesAsTheyAre(t *testing.T) {
	w := newWorld(t)
	get := "GET /TOKEN/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: close\r\n\r\n"
	head := strings.Replace(get, "GET", "HEAD", 1)
	old := "GET /TOKEN/ HTTP/1.0\r\nHost: " + cluster + "\r\n\r\n"
	for name, c := range map[string]struct {
		request, response string
		has               []string
		hasNot            []string
	}{
		"no content type":  {get, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", []string{"\r\nContent-Length: 6\r\n", "<html>"}, []string{"Content-Type"}},
		"odd status":       {get, "HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n", []string{"HTTP/1.1 299 "}, nil},
		"head with length": {head, "HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n", []string{"\r\nContent-Length: 123\r\n"}, []string{"Transfer-Encoding"}},
		"head of unknown":  {head, "HTTP/1.1 200 OK\r\n\r\n", []string{"200 OK"}, []string{"Content-Length", "Transfer-Encoding"}},
		"not modified":     {get, "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\nContent-Length: 99\r\n\r\n", []string{"304 Not Modified", "Etag: \"a\""}, []string{"Transfer-Encoding"}},
		"no content":       {get, "HTTP/1.1 204 No Content\r\n\r\n", []string{"204 No Content"}, []string{"Content-Length", "Transfer-Encoding"}},
		"until the end":    {get, "HTTP/1.0 200 OK\r\n\r\nall of it", []string{"all of it"}, nil},
		"trailers": {
			get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Said\r\n\r\n2\r\nok\r\n0\r\nX-Said: 1\r\nX-Unsaid: 2\r\n\r\n",
			[]string{"\r\nTrailer: X-Said\r\n", "2\r\nok\r\n", "0\r\n", "X-Said: 1\r\n", "X-Unsaid: 2\r\n"},
			nil,
		},
		"early hints": {
			get, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			[]string{"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", "HTTP/1.1 200 OK\r\n", "ok"},
			nil,
		},
		"early hints for HTTP/1.0": {old, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", []string{"200 OK", "ok"}, []string{"103", "Link"}},
		"chunks for HTTP/1.0":      {old, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", []string{"\r\n\r\nok"}, []string{"Transfer-Encoding"}},
		"redirect to itself":       {get, "HTTP/1.1 302 Found\r\nLocation: ./\r\nContent-Length: 0\r\n\r\n", []string{"302 Found", "Location: ./"}, nil},
	} {
		got := w.wire(c.request, c.response)
		for _, part := range c.has {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q is missing in %q", name, part, got)
			}
		}
		for _, part := range append(c.hasNot, "\r\nServer: nginx", "\r\nKeep-Alive") {
			if strings.Contains(got, part) {
				t.Errorf("%s: %q is in %q", name, part, got)
			}
		}
	}
}

func TestLyingBackends(t *testing.T) {
	w := newWorld(t)
	get := "GET /TOKEN/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n"
	// What begins well and breaks off ends the client's connection.
	for name, c := range map[string][2]string{
		"too short":     {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "half"},
		"broken chunk":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", "half"},
		"missing chunk": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "half"},
	} {
		got := w.wire(get, c[0])
		if !strings.Contains(got, c[1]) || strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("%s: %q", name, got)
		}
	}
	// What makes no sense is a 502.
	for name, response := range map[string]string{
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"odd encoding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"status 99":       "HTTP/1.1 099 Odd\r\n\r\n",
		"bad field":       "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"another upgrade": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"many interims":   strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", interims+1),
	} {
		if got := w.wire(strings.Replace(get, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), response); !strings.Contains(got, " 502 Bad Gateway\r\n") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What a backend says beyond a response must not become the next one's.
func TestWhatABackendSaysUnaskedGoesNowhere(t *testing.T) {
	w := newWorld(t)
	poison := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		for readHead(in) != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"+poison)
		}
	})))
	w.worker.route(token("b"), ready("be-b", converse(t, func(c net.Conn, in *bufio.Reader) {
		for readHead(in) != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			_, _ = io.WriteString(c, poison)
		}
	})))
	for _, tok := range []string{token("a"), token("b")} {
		for range 50 {
			// Of b it may come when the next request is under way already: then it is its answer.
			if got := w.get("/" + tok + "/"); got.body != "ok" && tok == token("a") {
				t.Fatalf("%d %q", got.status, got.body)
			}
		}
	}
}

// A backend may close a connection when it likes: the next request takes another one.
func TestClosedConnectionsAreNotUsedAgain(t *testing.T) {
	w := newWorld(t)
	var conns atomic.Int32
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		conns.Add(1)
		if readHead(in) != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and closes, without a word
		}
	})))
	for range 50 {
		got := w.get("/" + token("a") + "/")
		equal(t, "answer", fmt.Sprint(got.status, got.body), "200ok")
	}
	equal(t, "connections", conns.Load(), 50)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.settle, c.waits.idle = testkit.Patience, testkit.Patience })
	var conns atomic.Int32
	address := converse(t, func(c net.Conn, in *bufio.Reader) {
		conns.Add(1)
		for {
			head := readHead(in)
			if head == nil {
				return
			}
			if has(head, "Content-Length: 5") {
				_, _ = in.Discard(5)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
		}
	})
	w.worker.route(token("a"), ready("be-a", address))
	for range 20 {
		equal(t, "GET", w.get("/"+token("a")+"/").body, "ok")
		resp, err := w.client.Post("http://"+cluster+"/"+token("a")+"/", "text/plain", strings.NewReader("hello"))
		must(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	equal(t, "connections", conns.Load(), 1)
}

// Compression is agreed on by browser and backend; bytes pass as they are.
func TestWebSocketCompressionIsNegotiatedEndToEnd(t *testing.T) {
	w := newWorld(t)
	agreed := make(chan string, 1)
	w.leads(token("a"), "be-a", func(rw http.ResponseWriter, r *http.Request) {
		agreed <- r.Header.Get("Sec-WebSocket-Extensions")
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(-1)
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	c, resp, err := websocket.Dial(t.Context(), "ws://"+cluster+"/"+token("a")+"/", &websocket.DialOptions{
		HTTPClient: w.client, CompressionMode: websocket.CompressionContextTakeover,
	})
	must(t, err)
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	if offer := testkit.Receive(t, agreed, "the offer"); !strings.Contains(offer, "permessage-deflate") {
		t.Errorf("the backend was offered %q", offer)
	}
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.Contains(got, "permessage-deflate") {
		t.Errorf("the client was told %q", got)
	}
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
		must(t, c.Write(t.Context(), kind, big))
		gotKind, got, err := c.Read(t.Context())
		must(t, err)
		if gotKind != kind || !bytes.Equal(got, big) {
			t.Errorf("a message came back as %d bytes of kind %v", len(got), gotKind)
		}
	}
}

func TestWebSocketMessageOf16MiB(t *testing.T) {
	w := newWorld(t)
	w.leads(token("a"), "be-a", echoSocket)
	c, _ := w.socket("/" + token("a") + "/")
	big := strings.Repeat("0123456789abcdef", 1<<20)
	if say(t, c, big) != big {
		t.Error("it came back changed")
	}
}

// What a client sends ahead of the answer to its upgrade, and a backend together with
// it, is part of the new protocol.
func TestUpgradeLosesNothingSaidEarly(t *testing.T) {
	w := newWorld(t)
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		readHead(in)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: shout\r\n\r\nWELCOME ")
		said := make([]byte, 5)
		_, _ = io.ReadFull(in, said)
		_, _ = io.WriteString(c, strings.ToUpper(string(said)))
	})))
	conn := w.dial("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: keep-alive, upgrade\r\nUpgrade: shout\r\n\r\nhello")
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "upgrade", resp.Header.Get("Upgrade"), "shout")
	equal(t, "backend", resp.Header.Get(headerBackendID), "be-a")
	heard, err := io.ReadAll(from)
	must(t, err)
	equal(t, "heard", string(heard), "WELCOME HELLO")
}

func TestRefusedUpgradeIsAResponse(t *testing.T) {
	w := newWorld(t)
	w.leads(token("a"), "be-a", echo)
	got := w.raw("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	equal(t, "status", got.status, http.StatusOK)
	equal(t, "body", got.body, "GET / host="+cluster+" body=")
}

// I8: requests that wait for their backends are bounded.
func TestHeldRequestsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxHeld = 1 })
	w.starting(token("a"), "be-a")
	w.starting(token("b"), "be-b")
	got := w.held("/" + token("a") + "/")
	more := w.get("/" + token("b") + "/")
	equal(t, "status", more.status, http.StatusServiceUnavailable)
	equal(t, "Retry-After", more.header.Get("Retry-After"), "1")
	w.worker.reaches("be-a", messages.Ready, backend(t, echo))
	equal(t, "the one that waited", testkit.Receive(t, got, "the response").status, http.StatusOK)
	equal(t, "held", w.proxy.held.count(), 0)
}

// A backend that never answers is waited for as long as its client stays, and no longer.
func TestBackendThatNeverAnswers(t *testing.T) {
	w := newWorld(t)
	asked, gone := make(chan struct{}), make(chan struct{})
	w.worker.route(token("a"), ready("be-a", converse(t, func(_ net.Conn, in *bufio.Reader) {
		readHead(in)
		close(asked)
		_, _ = io.Copy(io.Discard, in)
		close(gone)
	})))
	conn := w.dial("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	// A client that leaves earlier is never taken to the backend.
	testkit.Receive(t, asked, "the backend to be asked")
	_ = conn.Close()
	testkit.Receive(t, gone, "the backend to see that the client left")
	testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 })
}
