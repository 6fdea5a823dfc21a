package proxy

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// tunnelTo asks for WebSockets as browsers do that know RFC 8441: all on one connection of HTTP/2.
type tunnelTo struct{ http2.Transport }

func (w *world) tunnels() *tunnelTo {
	tr := &tunnelTo{http2.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string, cfg *tls.Config) (net.Conn, error) {
			return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.addr)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// bothWays is what a client reads and writes.
type bothWays struct {
	io.ReadCloser
	io.Writer
	end func()
}

func (b bothWays) Close() error { b.end(); return b.ReadCloser.Close() }

// RoundTrip takes a handshake of HTTP/1.1 and gives its answer.
func (tr *tunnelTo) RoundTrip(r *http.Request) (*http.Response, error) {
	key := r.Header.Get(webSocketKey)
	body, feed := io.Pipe()
	ctx, cancel := context.WithCancel(r.Context())
	req := r.Clone(ctx)
	req.Method, req.Body, req.ContentLength = http.MethodConnect, body, -1
	req.Header = req.Header.Clone()
	for _, name := range []string{"Connection", "Upgrade", webSocketKey} {
		req.Header.Del(name)
	}
	req.Header[protocolField] = []string{"websocket"}
	resp, err := tr.Transport.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		if resp.Header.Get(webSocketAccept) != "" || resp.Header.Get("Upgrade") != "" {
			cancel()
			return nil, fmt.Errorf("the answer is one of HTTP/1.1: %v", resp.Header)
		}
		sum := sha1.Sum([]byte(key + webSocketGUID))
		resp.StatusCode = http.StatusSwitchingProtocols
		resp.Header.Set("Connection", "Upgrade")
		resp.Header.Set("Upgrade", "websocket")
		resp.Header.Set(webSocketAccept, base64.StdEncoding.EncodeToString(sum[:]))
	}
	resp.Body = bothWays{resp.Body, feed, func() { _ = feed.Close(); cancel() }}
	return resp, nil
}

func (tr *tunnelTo) open(w *world, path string, fields ...string) (*websocket.Conn, *http.Response, error) {
	w.t.Helper()
	header := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		header[fields[i]] = append(header[fields[i]], fields[i+1])
	}
	c, resp, err := websocket.Dial(testkit.Context(w.t), "wss://"+cluster+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: tr}, HTTPHeader: header, Subprotocols: []string{"room"}, Host: cluster,
	})
	if err == nil {
		w.t.Cleanup(func() { _ = c.CloseNow() })
		c.SetReadLimit(-1)
	}
	return c, resp, err
}

func (tr *tunnelTo) must(w *world, path string, fields ...string) *websocket.Conn {
	w.t.Helper()
	c, _, err := tr.open(w, path, fields...)
	must(w.t, err)
	return c
}

// The demand of WebSockets over HTTP/2: they are as those over HTTP/1.1, to the backend and to the client.
func TestTunnels(t *testing.T) {
	w := newTLSWorld(t)
	seen := make(chan *http.Request, 10)
	w.leads(token("a"), "be-a", func(rw http.ResponseWriter, r *http.Request) {
		seen <- r
		echoSocket(rw, r)
	})
	tr := w.tunnels()

	c, resp, err := tr.open(w, "/"+token("a")+"/ws?q=1", "X-Verified-Username", "root", "X.Verified.Secret", "root", "X-Mine", "1")
	must(t, err)
	equal(t, "protocol", resp.Proto, "HTTP/2.0")
	equal(t, "subprotocol", c.Subprotocol(), "room")
	equal(t, "backend", resp.Header.Get(headerBackendID), "be-a")
	r := testkit.Receive(t, seen, "the handshake")
	equal(t, "the request", r.Method+" "+r.RequestURI+" "+r.Proto, "GET /ws?q=1 HTTP/1.1")
	for name, want := range map[string]string{
		headerUsername: "", headerSecret: "", headerBackend: "be-a", "X-Forwarded-Proto": "https", "X-Mine": "1",
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Content-Length": "", "Transfer-Encoding": "",
	} {
		equal(t, name, strings.Join(r.Header.Values(name), "|"), want)
	}
	equal(t, "length", r.ContentLength, 0)

	equal(t, "echo", say(t, c, "hello"), "hello")
	for _, size := range []int{511, 512, 513, 1 << 20} {
		if text := strings.Repeat("x", size); say(t, c, text) != text {
			t.Errorf("a message of %d bytes came back changed", size)
		}
	}
	equal(t, "upgrades", w.proxy.upgrades.Load(), 1)
	must(t, c.Write(t.Context(), websocket.MessageText, []byte("bye")))
	_, _, err = c.Read(t.Context())
	equal(t, "close code", websocket.CloseStatus(err), 4242)
	testkit.Eventually(t, "the backend's end", func() bool { return w.inside() == 0 })

	for what, end := range map[string]func(c *websocket.Conn) error{
		"in order": func(c *websocket.Conn) error { return c.Close(websocket.StatusNormalClosure, "") },
		"at once":  func(c *websocket.Conn) error { return c.CloseNow() },
	} {
		c := tr.must(w, "/"+token("a")+"/")
		equal(t, "echo", say(t, c, "hello"), "hello")
		if err := end(c); err != nil && what == "in order" {
			t.Errorf("the client ends %s: %v", what, err)
		}
		testkit.Eventually(t, "the client's end "+what, func() bool { return w.inside() == 0 && w.proxy.upgrades.Load() == 0 })
	}
}

// What is no WebSocket gets a clear answer, and never one that a client of a tunnel takes for its beginning.
func TestTunnelsRefused(t *testing.T) {
	w := newTLSWorld(t)
	tr := w.tunnels()
	raw := func(answer string) string {
		return rude(t, func(c net.Conn) { _, _ = io.WriteString(c, answer) })
	}
	for name, answer := range map[string]string{
		"page":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"no":     "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
		"wrong":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\n",
		"others": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n",
	} {
		w.worker.route(token(name), ready("be-"+name, raw(answer)))
	}
	for path, want := range map[string]int{
		"/" + token("page") + "/": 502, "/" + token("wrong") + "/": 502, "/" + token("others") + "/": 502, "/" + token("no") + "/": 403,
		"/" + token("none") + "/": 410, "/ready": 401, "/": 401,
	} {
		_, resp, err := tr.open(w, path)
		if err == nil || resp == nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v, want %d", path, resp, err, want)
		}
	}
	w.leads(token("a"), "be-a", echoSocket)
	for want, fields := range map[string][][2]string{
		"501": {{":method", "CONNECT"}, {protocolField, "connect-udp"}},
		"400": {{":method", "GET"}, {protocolField, "websocket"}},
	} {
		fields = append(fields, [][2]string{{":scheme", "https"}, {":authority", cluster}, {":path", "/" + token("a") + "/"}}...)
		equal(t, fmt.Sprint(fields), w.rawStream(fields), want)
	}
	testkit.Eventually(t, "nothing is left", func() bool { return w.inside() == 0 })
}

// The item 7: a WebSocket that waits for a starting backend holds no other, and waits as long as any request.
func TestTunnelsWaitForNoOther(t *testing.T) {
	w := newTLSWorld(t, func(c *Config) { c.waits.upgrade = time.Millisecond })
	w.starting(token("slow"), "be-slow")
	w.leads(token("a"), "be-a", echoSocket)
	tr := w.tunnels()
	opened := make(chan *websocket.Conn, 1)
	go func() {
		c, _, err := tr.open(w, "/"+token("slow")+"/")
		if err != nil {
			t.Errorf("the one that waits: %v", err)
		}
		opened <- c
	}()
	testkit.Eventually(t, "it to be held", func() bool { return w.waiting() == 1 })
	equal(t, "the other's echo", say(t, tr.must(w, "/"+token("a")+"/"), "hello"), "hello")
	w.worker.reaches("be-slow", messages.Ready, backend(t, echoSocket))
	equal(t, "its echo", say(t, testkit.Receive(t, opened, "the one that waits"), "hello"), "hello")
}

// The demand that a WebSocket which the proxy ends is told why, whether its client is silent, talks or reads nothing; the other streams
// of the connection go on.
func TestTunnelsAreToldWhyTheyEnd(t *testing.T) {
	for name, c := range map[string]struct {
		code  websocket.StatusCode
		cause func(w *world)
	}{
		"revoked": {websocket.StatusPolicyViolation, func(w *world) { w.worker.revoke("be-a", new("ada"), "") }},
		"drained": {websocket.StatusGoingAway, func(w *world) { w.stop() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTLSWorld(t, func(c *Config) { c.waits.linger = testkit.Patience })
			address := backend(t, echoSocket)
			w.of(token("ada"), "ada", address)
			w.of(token("bob"), "bob", address)
			tr := w.tunnels()
			silent, talks, bob := tr.must(w, "/"+token("ada")+"/"), tr.must(w, "/"+token("ada")+"/"), tr.must(w, "/"+token("bob")+"/")
			ends := map[string]chan error{"silent": make(chan error, 1), "talks": make(chan error, 1)}
			talked := make(chan struct{}, 1)
			go func() {
				for {
					_ = talks.Write(testkit.Context(t), websocket.MessageText, []byte("and another thing"))
					if _, _, err := talks.Read(testkit.Context(t)); err != nil {
						ends["talks"] <- err
						return
					}
					select {
					case talked <- struct{}{}:
					default:
					}
				}
			}()
			go func() {
				_, _, err := silent.Read(testkit.Context(t))
				ends["silent"] <- err
			}()
			testkit.Receive(t, talked, "an echo")
			over := make(chan struct{})
			go func() { defer close(over); c.cause(w) }()
			for what, end := range ends {
				if err := testkit.Receive(t, end, what); websocket.CloseStatus(err) != c.code {
					t.Errorf("who is %s is told %v", what, err)
				}
			}
			_, _ = silent.CloseNow(), talks.CloseNow()
			if name == "revoked" {
				equal(t, "bob's echo", say(t, bob, "still here"), "still here")
				testkit.Eventually(t, "ada's to end", func() bool { return w.inside() == 1 })
				_ = bob.CloseNow()
			} else {
				_, _, err := bob.Read(testkit.Context(t))
				equal(t, "bob is told", websocket.CloseStatus(err), c.code)
				_ = bob.CloseNow()
			}
			testkit.Receive(t, over, "the end")
		})
	}
}

// I8: who reads nothing of a tunnel keeps nobody from ending it.
func TestTunnelThatIsNotReadEnds(t *testing.T) {
	w := newTLSWorld(t)
	w.worker.route(token("b"), ready("be-b", backend(t, func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		for c.Write(r.Context(), websocket.MessageBinary, make([]byte, 1<<20)) == nil {
		}
	})))
	_ = w.tunnels().must(w, "/"+token("b")+"/")
	testkit.Eventually(t, "it to be open", func() bool { return w.proxy.upgrades.Load() == 1 })
	w.proxy.cut(0, w.proxy.activity.passages("be-b"))
	testkit.Eventually(t, "it to end", func() bool { return w.inside() == 0 })
}
