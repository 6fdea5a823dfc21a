package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/jetway-project/jetway/internal/testkit"
)

// newTLSWorld is a world whose proxy speaks TLS, and whose client HTTP/2 over it.
func newTLSWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	certFile, keyFile := testkit.NewAuthority(t).Server()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	must(t, err)
	w := newWorld(t, append(change, func(c *Config) { c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })...)
	transport := w.client.Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	transport.ForceAttemptHTTP2 = true
	return w
}

func (w *world) secure(method, path string, body io.Reader) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+cluster+path, body)
	must(w.t, err)
	resp, err := w.client.Do(req)
	must(w.t, err)
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	equal(w.t, "protocol", resp.Proto, "HTTP/2.0")
	return resp
}

func TestHTTP2(t *testing.T) {
	w := newTLSWorld(t)
	tok := token("a")
	seen := make(chan *http.Request, 2)
	w.leads(tok, "be-a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		seen <- r
		w.Header().Set("X-Sum", "7")
	})
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+cluster+"/"+tok+"/x?y", body)
	must(t, err)
	req.Header.Set("x-verified-username", "root")
	req.Trailer = http.Header{"X-Verified-Late": {"root"}, "X-Late": {"5"}}
	go func() {
		_, _ = io.WriteString(feed, "hello")
		_ = feed.Close()
	}()
	resp, err := w.client.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	echoed, err := io.ReadAll(resp.Body)
	must(t, err)
	equal(t, "protocol", resp.Proto, "HTTP/2.0")
	equal(t, "body", string(echoed), "hello")
	equal(t, "trailer", resp.Trailer.Get("X-Sum"), "7")
	r := testkit.Receive(t, seen, "the request")
	equal(t, "URI", r.RequestURI, "/x?y")
	equal(t, "user", r.Header.Get("X-Verified-Username"), "")
	equal(t, "proto", r.Header.Get("X-Forwarded-Proto"), "https")
	equal(t, "trailers", fmt.Sprint(r.Trailer), "map[X-Late:[5]]")

	head := w.secure(http.MethodHead, "/"+tok+"/", nil)
	equal(t, "HEAD", head.StatusCode, http.StatusOK)
	equal(t, "dead token", w.secure(http.MethodGet, "/"+token("none")+"/", nil).StatusCode, http.StatusGone)
}

func TestHTTP2StreamsBothWays(t *testing.T) {
	w := newTLSWorld(t)
	w.leads(token("a"), "be-a", shout)
	body, feed := io.Pipe()
	lines := bufio.NewReader(w.secure(http.MethodPost, "/"+token("a")+"/", body).Body)
	for _, text := range []string{"one", "two", "three"} {
		_, err := io.WriteString(feed, text+"\n")
		must(t, err)
		line, err := lines.ReadString('\n')
		must(t, err)
		equal(t, "line", line, text+"!\n")
	}
	must(t, feed.Close())
}

// shout answers each line as it comes.
func shout(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = rc.Flush()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		_, _ = fmt.Fprintf(w, "%s!\n", lines.Text())
		_ = rc.Flush()
	}
}

// I8: over TLS no body is held whole either.
func TestHTTP2LargeBodies(t *testing.T) {
	size := testkit.Sized[int64](t, 8<<20, 64<<20)
	w := newTLSWorld(t)
	w.leads(token("a"), "be-a", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	n, err := io.Copy(io.Discard, w.secure(http.MethodPost, "/"+token("a")+"/", io.LimitReader(zeros{}, size)).Body)
	must(t, err)
	equal(t, "bytes", n, size)
}

func (w *world) secureSocket(path string) *websocket.Conn {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	// Browsers ask for HTTP/1.1 when they want a WebSocket.
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.addr)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}},
	}}
	c, _, err := websocket.Dial(ctx, "wss://"+cluster+path, &websocket.DialOptions{HTTPClient: client})
	must(w.t, err)
	w.t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return c
}

func TestWebSocketOverTLS(t *testing.T) {
	w := newTLSWorld(t)
	w.leads(token("a"), "be-a", echoSocket)
	c := w.secureSocket("/" + token("a") + "/")
	equal(t, "echo", say(t, c, "hello"), "hello")
	for _, size := range []int{2047, 2048, 2049, 16384, 1 << 20} {
		text := strings.Repeat("x", size)
		if say(t, c, text) != text {
			t.Errorf("a message of %d bytes came back changed", size)
		}
	}
	must(t, c.Write(t.Context(), websocket.MessageText, []byte("bye")))
	_, _, err := c.Read(t.Context())
	equal(t, "close code", websocket.CloseStatus(err), 4242)
	testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 })
}

// HTTP/2 lets a client put anything into method and path; in HTTP/1 a space would end
// them, and what follows would be read as something else.
func TestHTTP2CannotBreakTheRequestLine(t *testing.T) {
	w := newTLSWorld(t)
	reached := make(chan string, 10)
	w.leads(token("a"), "be-a", func(_ http.ResponseWriter, r *http.Request) { reached <- r.Method + " " + r.RequestURI })
	for _, c := range []struct{ method, path string }{
		{"GET", "/" + token("a") + "/x HTTP/1.1"},
		{"GET", "/" + token("a") + "/?q HTTP/1.1\r\nX-Verified-Username: root"},
		{"GET /" + token("a") + "/ HTTP/1.1\r\nX: ", "/" + token("a") + "/"},
		{"GET /evil", "/" + token("a") + "/"},
	} {
		status := w.rawHTTP2(c.method, c.path)
		if status == "200" {
			t.Errorf("%q %q: %s", c.method, c.path, status)
		}
	}
	if len(reached) > 0 {
		t.Errorf("the backend got %q", <-reached)
	}
	equal(t, "a proper one", w.rawHTTP2("GET", "/"+token("a")+"/"), "200")
}

// rawHTTP2 sends a request that no client library would, and gives the status, "" when
// the stream was reset.
func (w *world) rawHTTP2(method, path string) string {
	w.t.Helper()
	return w.rawStream([][2]string{{":method", method}, {":scheme", "https"}, {":authority", cluster}, {":path", path}})
}

func (w *world) rawStream(fields [][2]string) string {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	must(w.t, err)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(w.t, err)
	framer := http2.NewFramer(conn, conn)
	must(w.t, framer.WriteSettings())
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		must(w.t, encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	must(w.t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}))
	decoder := hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		case *http2.HeadersFrame:
			fields, err := decoder.DecodeFull(f.HeaderBlockFragment())
			must(w.t, err)
			return fields[0].Value
		}
	}
}
