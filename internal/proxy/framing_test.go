package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// converse accepts connections and gives each to serve, with what reads it.
func converse(t testing.TB, serve func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	return l.Addr().String()
}

// readHead reads the head of a request as it is on the wire.
func readHead(in *bufio.Reader) (lines []string) {
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return lines
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
	}
}

// answersHeads answers every request with 200 and gives its head's lines.
func answersHeads(t *testing.T) (address string, seen chan []string) {
	t.Helper()
	seen = make(chan []string, 100)
	return converse(t, func(c net.Conn, in *bufio.Reader) {
		for {
			lines := readHead(in)
			if lines == nil {
				return
			}
			seen <- lines
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), seen
}

func has(lines []string, line string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.EqualFold(l, line) })
}

func hasField(lines []string, name string) bool {
	return slices.ContainsFunc(lines, func(l string) bool {
		return len(l) > len(name) && strings.EqualFold(l[:len(name)+1], name+":")
	})
}

// RFC 9110, section 7.6.1: what is about one connection stays on it.
func TestHopByHopFieldsStay(t *testing.T) {
	w := newWorld(t)
	address, seen := answersHeads(t)
	w.worker.route(token("a"), ready("be-a", address))
	w.raw("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: close, X-One , x-two;q=1\r\nConnection: cookie, x-verified-backend, x-forwarded-for\r\n" +
		"X-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nCookie: a=b\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eA==\r\n" +
		"TE: gzip, trailers\r\nUpgrade: websocket\r\nX_Forwarded_For: 10.0.0.1\r\nX-Forwarded-Port: 1\r\n\r\n")
	head := testkit.Receive(t, seen, "the request")
	for _, name := range []string{
		"Connection", "X-One", "X-Two", "Cookie", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Upgrade",
		"X_Forwarded_For", "X-Forwarded-Port", "Transfer-Encoding", "Content-Length",
	} {
		if hasField(head, name) {
			t.Errorf("%s was passed on: %q", name, head)
		}
	}
	for _, line := range []string{
		"GET / HTTP/1.1", "X-Three: 3", "TE: trailers", "X-Verified-Backend: be-a", "X-Forwarded-For: 127.0.0.1", "Host: " + cluster,
	} {
		if !has(head, line) {
			t.Errorf("%s is missing: %q", line, head)
		}
	}
}

func TestHopByHopFieldsOfResponsesStay(t *testing.T) {
	w := newWorld(t)
	w.worker.route(token("a"), ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nKeep-Alive: timeout=5\r\n"+
			"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	})))
	got := w.get("/" + token("a") + "/")
	equal(t, "body", got.body, "ok")
	for _, name := range []string{"Connection", "X-One", "Keep-Alive", "Proxy-Authenticate", "Upgrade"} {
		equal(t, name, got.header.Get(name), "")
	}
	equal(t, "X-Two", got.header.Get("X-Two"), "2")
}

// A body has one length for the backend, said by the proxy, whatever the client says.
func TestOneFramingOnly(t *testing.T) {
	w := newWorld(t)
	bodies := make(chan string, 10)
	w.leads(token("a"), "be-a", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- fmt.Sprintf("%s %d %v %s", r.Method, r.ContentLength, r.TransferEncoding, body)
	})
	for sent, seen := range map[string]string{
		"POST\nContent-Length: 5\n\nhello":                                                   "POST 5 [] hello",
		"POST\nContent-Length: 5\nConnection: content-length\n\nhello":                       "POST 5 [] hello",
		"POST\nContent-Length: 5\nContent-Length: 5\n\nhello":                                "POST 5 [] hello",
		"POST\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n":                        "POST -1 [chunked] hello",
		"POST\nTransfer-Encoding: chunked\nContent-Length: 3\n\n5\r\nhello\r\n0\r\n\r\n":     "POST -1 [chunked] hello",
		"POST\nTransfer-Encoding: chunked\nConnection: te\n\n5;x=y\r\nhello\r\n0\r\n\r\n":    "POST -1 [chunked] hello",
		"POST\nContent-Length: 0\n\n":                                                        "POST 0 [] ",
		"GET\nContent-Length: 2\n\nhi":                                                       "GET 2 [] hi",
		"DELETE\nTransfer-Encoding: chunked\n\n2\r\nhi\r\n0\r\n\r\n":                         "DELETE -1 [chunked] hi",
		"POST\nContent-Length: 5\nConnection: Upgrade\nUpgrade: websocket\n\nhello":          "POST 5 [] hello",
		"GET\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAA\n\n": "GET 0 [] ",
	} {
		method, rest, _ := strings.Cut(sent, "\n")
		head, body, _ := strings.Cut(rest, "\n\n")
		got := w.raw(method + " /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n" + strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body)
		equal(t, sent, got.status, http.StatusOK)
		equal(t, sent, testkit.Receive(t, bodies, "the body"), seen)
	}
}

// A tunnel for another HTTP would let a client say x-verified-* itself.
func TestNoUpgradeToAnotherHTTP(t *testing.T) {
	w := newWorld(t)
	address, seen := answersHeads(t)
	w.worker.route(token("a"), ready("be-a", address))
	for _, protocol := range []string{"h2c", "H2C", "HTTP/2.0", "TLS/1.2", "websocket, h2c", "h2"} {
		got := w.raw("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")
		equal(t, protocol, got.status, http.StatusOK)
		if head := testkit.Receive(t, seen, "the request"); hasField(head, "Upgrade") || hasField(head, "Connection") {
			t.Errorf("%s: %q", protocol, head)
		}
	}
}

// The rest of a request that the backend did not want must never be taken for the next one.
func TestEarlyResponseEndsTheConnection(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.linger = 50 * time.Millisecond })
	var requests atomic.Int32
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		readHead(in)
		requests.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		_, _ = io.Copy(io.Discard, in)
	})))
	smuggled := "GET /" + token("a") + "/smuggled HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n"
	for name, head := range map[string]string{
		"length":  "Content-Length: 1000000\r\n\r\n",
		"chunked": "Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
	} {
		requests.Store(0)
		conn := w.dial("POST /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n" + head)
		from := bufio.NewReader(conn)
		resp, err := http.ReadResponse(from, nil)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		equal(t, name, fmt.Sprint(resp.StatusCode, " ", resp.Close, " ", string(body)), "413 true big")
		_, _ = io.WriteString(conn, smuggled) // what the rest of the body happens to be
		rest, _ := io.ReadAll(from)
		equal(t, name+": what follows", string(rest), "")
		testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 })
		equal(t, name+": requests", requests.Load(), 1)
	}
}

// A client that sends all before it reads gets the response all the same.
func TestEarlyResponseReachesAClientThatStillSends(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.linger = testkit.Patience })
	w.worker.route(token("a"), ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
	})))
	for range 10 {
		conn := w.dial("POST /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nContent-Length: 100000\r\n\r\n")
		_, err := io.WriteString(conn, strings.Repeat("x", 100_000))
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		// The backend may have been gone before it could be read: a reset is a 502.
		if resp.StatusCode != http.StatusRequestEntityTooLarge && resp.StatusCode != http.StatusBadGateway || resp.StatusCode == http.StatusRequestEntityTooLarge && string(body) != "big" {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		_ = conn.Close()
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	w := newWorld(t)
	w.leads(token("a"), "be-a", echo)
	one := "POST /" + token("a") + "/%d HTTP/1.1\r\nHost: " + cluster + "\r\nContent-Length: 1\r\n\r\n%d"
	from := bufio.NewReader(w.dial(fmt.Sprintf(one+one+one, 1, 1, 2, 2, 3, 3)))
	for i := range 3 {
		resp, err := http.ReadResponse(from, nil)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		equal(t, "body", string(body), fmt.Sprintf("POST /%d host=%s body=%d", i+1, cluster, i+1))
	}
}

// A backend must not take half a body for a whole one.
func TestBrokenOffBodyIsNoBody(t *testing.T) {
	w := newWorld(t)
	seen := make(chan error, 1)
	w.leads(token("a"), "be-a", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		seen <- err
	})
	for _, head := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		conn := w.dial("POST /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n" + head + "\r\n\r\n5\r\nhe")
		must(t, conn.(*net.TCPConn).CloseWrite())
		if err := testkit.Receive(t, seen, "the backend to see"); err == nil {
			t.Errorf("%s: the backend saw a whole body", head)
		}
	}
}

func TestExpectContinueIsTheBackendsToSay(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.proceed = testkit.Patience })
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		head := readHead(in)
		switch {
		case !has(head, "Expect: 100-continue"):
			_, _ = io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
		case strings.Contains(head[0], "/wanted"):
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 5)
			_, _ = io.ReadFull(in, body)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
		}
	})))
	request := "POST /%s/%s HTTP/1.1\r\nHost: " + cluster + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

	conn := w.dial(fmt.Sprintf(request, token("a"), "wanted"))
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "first", resp.StatusCode, http.StatusContinue)
	_, err = io.WriteString(conn, "hello")
	must(t, err)
	resp, err = http.ReadResponse(from, nil)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	equal(t, "then", fmt.Sprint(resp.StatusCode, string(body)), "200hello")

	conn = w.dial(fmt.Sprintf(request, token("a"), "unwanted"))
	from = bufio.NewReader(conn)
	resp, err = http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "not asked for the body", fmt.Sprint(resp.StatusCode, resp.Close), "417 true")
	_, err = io.ReadAll(from)
	must(t, err) // and closed
}

// A backend that knows nothing of it gets the body all the same.
func TestExpectContinueWithoutAWord(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.proceed = 20 * time.Millisecond })
	w.worker.route(token("a"), ready("be-a", converse(t, func(c net.Conn, in *bufio.Reader) {
		readHead(in)
		body := make([]byte, 5)
		_, _ = io.ReadFull(in, body)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
	})))
	conn := w.dial("POST /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "first", resp.StatusCode, http.StatusContinue)
	_, err = io.WriteString(conn, "hello")
	must(t, err)
	resp, err = http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "then", resp.StatusCode, http.StatusOK)
}

// Slow heads: TestE2ESlowHeads.
func TestHeaderBombsAreRefused(t *testing.T) {
	w := newWorld(t)
	bomb := "GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100) + "\r\n"
	equal(t, "100 KiB of header", w.raw(bomb).status, http.StatusRequestHeaderFieldsTooLarge)
}
