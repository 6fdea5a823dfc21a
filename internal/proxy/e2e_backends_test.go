package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/testkit"
)

// response is a backend that answers every request with these bytes and then ends.
func response(bytes string) func(c *rawConn, _ string) {
	return func(c *rawConn, _ string) { _, _ = io.WriteString(c, bytes) }
}

const ok = "HTTP/1.1 200 OK\r\n"

// A backend that gives no proper answer is not passed on: the client gets a 502, and the
// proxy is none the worse for it (the demand).
func TestE2EBackendsAnswerNonsense(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	for name, answer := range map[string]string{
		"nothing":                    "",
		"garbage":                    "nonsense\r\n\r\n",
		"HTTP/0.9":                   "<html>hello</html>",
		"only a status line":         "HTTP/1.1 200 OK\r\n",
		"half a head":                ok + "Content-Type: text/ht",
		"no status":                  "HTTP/1.1 \r\n\r\n",
		"status 99":                  "HTTP/1.1 99 Little\r\n\r\n",
		"status 0":                   "HTTP/1.1 000 Nothing\r\n\r\n",
		"a negative status":          "HTTP/1.1 -200 OK\r\n\r\n",
		"a status with a plus":       "HTTP/1.1 +200 OK\r\n\r\n",
		"another protocol":           "ICY 200 OK\r\n\r\n",
		"an upgrade unasked":         "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"no colon":                   ok + "Content-Length 5\r\n\r\nhello",
		"a return in a value":        ok + "X-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
		"NUL in a value":             ok + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"a head without an end":      ok + strings.Repeat("X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 1<<16),
		"a header without an end":    ok + "X-A: " + strings.Repeat("a", 4<<20),
		"two lengths":                ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"a list of lengths":          ok + "Content-Length: 5, 6\r\n\r\nhello!",
		"a negative length":          ok + "Content-Length: -5\r\n\r\nhello",
		"a length with a plus":       ok + "Content-Length: +5\r\n\r\nhello",
		"a length beyond any":        ok + "Content-Length: 99999999999999999999\r\n\r\nhello",
		"an encoding nobody knows":   ok + "Transfer-Encoding: gzip\r\n\r\nhello",
		"an encoding that is hidden": ok + "Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			path := s.leads(newRawBackend(t, response(answer)).address)
			if got := s.get(path); got.status != http.StatusBadGateway {
				t.Errorf("the client gets %d %.100q, %v", got.status, got.body, got.err)
			}
		})
	}
	s.serves(s.leads(httpBackend(t, hello)))
}

// A response that breaks off does so for the client too: it is never taken for whole
// (the demand: a backend that closes mid-response or lies about lengths).
func TestE2EBackendsCloseMidResponse(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	long := strings.Repeat("x", 1<<20)
	for name, answer := range map[string]string{
		"less than its length":         ok + "Content-Length: 100\r\n\r\nhalf",
		"nothing of its length":        ok + "Content-Length: 100\r\n\r\n",
		"much less than its length":    ok + "Content-Length: 2097152\r\n\r\n" + long,
		"no last chunk":                ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"half a chunk":                 ok + "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf",
		"no chunk at all":              ok + "Transfer-Encoding: chunked\r\n\r\n",
		"no end of the trailers":       ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
		"a chunk length that is none":  ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
		"a chunk longer than it says":  ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalfmore\r\n0\r\n\r\n",
		"a negative chunk":             ok + "Transfer-Encoding: chunked\r\n\r\n-4\r\nhalf\r\n0\r\n\r\n",
		"a chunk beyond any":           ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhalf\r\n0\r\n\r\n",
		"gzip that breaks off":         ok + "Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n\x1f\x8b",
		"an error that breaks off":     "HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf",
		"an event stream, by a length": ok + "Content-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: half\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := s.leads(newRawBackend(t, response(answer)).address)
			got := s.get(path)
			if got.err == nil && got.status != http.StatusBadGateway {
				t.Errorf("the client takes it for whole: %d %.100q", got.status, got.body)
			}
		})
	}
	s.serves(s.leads(httpBackend(t, hello)))
}

// What a backend says beyond its response is nobody's response: neither that of the next
// request on the client's connection nor that of another client (lies about lengths).
func TestE2EBackendsSayMoreThanTheirResponse(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for name, answer := range map[string]string{
		"after its length":      ok + "Content-Length: 5\r\n\r\nhello",
		"after no body":         ok + "Content-Length: 0\r\n\r\n",
		"after the last chunk":  ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"after a 204":           "HTTP/1.1 204 No Content\r\n\r\n",
		"after a 204's length":  "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"after a 304's length":  "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"length and chunks":     ok + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"two equal lengths":     ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"after an interim one":  "HTTP/1.1 103 Early Hints\r\n\r\n" + ok + "Content-Length: 5\r\n\r\nhello",
		"after an HTTP/1.0 one": "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			// It keeps the connection, so that the proxy may use it again.
			backend := newRawBackend(t, func(c *rawConn, head string) {
				for ; head != ""; head = c.head() {
					said := ok + "Content-Length: 6\r\n\r\nhonest"
					if strings.Contains(head, " /liar ") {
						said = answer + poison
					}
					if _, err := io.WriteString(c, said); err != nil {
						return
					}
				}
			})
			path := s.leads(backend.address)
			conn := s.dial()
			from := bufio.NewReader(conn)
			for range 5 {
				_, err := fmt.Fprintf(conn, "GET %sliar HTTP/1.1\r\nHost: %s\r\n\r\n", path, s.cluster)
				must(t, err)
				if got := readReply(from); got.status >= 400 || got.status == 0 || strings.Contains(got.body, "poison") {
					t.Fatalf("the liar's own response is %d %q, %v", got.status, got.body, got.err)
				}
				_, err = fmt.Fprintf(conn, "GET %shonest HTTP/1.1\r\nHost: %s\r\n\r\n", path, s.cluster)
				must(t, err)
				if got := readReply(from); got.body != "honest" {
					t.Fatalf("the next request gets %d %q, %v", got.status, got.body, got.err)
				}
				if got := s.get(path + "honest"); got.body != "honest" {
					t.Fatalf("another client gets %d %q, %v", got.status, got.body, got.err)
				}
			}
		})
	}
}

// A backend that sends interim responses for ever is given up, and the client gets a few
// of them only (the demand; I8).
func TestE2EBackendSendsInterimResponsesForEver(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	for _, status := range []string{"100 Continue", "102 Processing", "103 Early Hints", "199 Odd"} {
		t.Run(status, func(t *testing.T) {
			backend := newRawBackend(t, func(c *rawConn, _ string) {
				for {
					if _, err := io.WriteString(c, "HTTP/1.1 "+status+"\r\nLink: </a>\r\n\r\n"); err != nil {
						return
					}
				}
			})
			path := s.leads(backend.address)
			conn := s.dial()
			_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, s.cluster)
			must(t, err)
			said := ends(t, conn, "interim responses")
			if n := strings.Count(said, "HTTP/1.1 1"); n > 1000 {
				t.Errorf("%d interim responses are passed on", n)
			}
			if last := said[max(0, strings.LastIndex(said, "HTTP/1.1 ")):]; !strings.HasPrefix(last, "HTTP/1.1 502 ") {
				t.Errorf("the last response is %.100q", last)
			}
			for _, c := range backend.took() {
				testkit.Receive(t, c.done, "the backend to be given up")
			}
		})
	}
	s.serves(s.leads(httpBackend(t, hello)))
}

// Who waits for a backend that never answers waits alone: others are served, and when the
// client gives up the backend hears of it (the demand).
func TestE2EBackendNeverAnswers(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	backend := newRawBackend(t, func(c *rawConn, _ string) { _, _ = io.Copy(io.Discard, c.from) })
	path, other := s.leads(backend.address), s.leads(httpBackend(t, hello))
	const waiting = 50
	for _, request := range []string{
		"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
		"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello",
		"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		var clients []io.Closer
		for range waiting {
			conn := s.dial()
			_, err := fmt.Fprintf(conn, request, path, s.cluster)
			must(t, err)
			clients = append(clients, conn)
		}
		var conns []*rawConn
		for len(conns) < waiting {
			conns = append(conns, backend.took()...)
			s.serves(other)
		}
		for _, c := range clients {
			_ = c.Close()
		}
		for _, c := range conns {
			testkit.Receive(t, c.done, "the backend to hear that its client has gone")
		}
	}
	s.serves(other)
}

// A redirect is the client's to follow: the proxy passes it on, below the token, and asks the
// backend once (the demand: a backend that redirects to itself).
func TestE2EBackendRedirectsToItself(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	for _, status := range testkit.Sized(t, []int{302, 308}, []int{301, 302, 303, 307, 308}) {
		for _, location := range []string{"/", "", "?again", "//" + s.cluster + "/", "http://" + s.cluster + "/", "http://127.0.0.1:1/", "\\\\evil"} {
			backend := newRawBackend(t, response(fmt.Sprintf("HTTP/1.1 %d Again\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, location)))
			link := s.leads(backend.address)
			want := location
			if here, ok := strings.CutSuffix(location, "/"); ok && !strings.Contains(location, "127.0.0.1:1/") {
				want = here + link
			}
			got := s.get(link + "a")
			if got.status != status || got.header.Get("Location") != want {
				t.Errorf("%d to %q arrives as %d to %q, want %q", status, location, got.status, got.header.Get("Location"), want)
			}
			if n := len(backend.took()); n != 1 {
				t.Errorf("%d to %q: the backend is asked %d times", status, location, n)
			}
		}
	}
}

// A backend that answers before it has read the request, and then ends, is heard, whatever
// the client still sends.
func TestE2EBackendAnswersEarly(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	backend := newRawBackend(t, response("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge"))
	path := s.leads(backend.address)
	lingers := s.another(func(c *proxy.Config) { c.Linger(testkit.Patience) }) // else a slow client could miss it
	for _, size := range []int{1, 64 << 10, 8 << 20} {
		conn := dialTo(t, lingers)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, s.cluster, size, strings.Repeat("x", size))
		}()
		got := readReply(bufio.NewReader(conn))
		if got.status != http.StatusRequestEntityTooLarge && got.status != http.StatusBadGateway {
			t.Errorf("after %s bytes the client gets %d, %v", strconv.Itoa(size), got.status, got.err)
		}
		_ = conn.Close()
		<-sent
	}
}

// What has no length is passed on as it comes, until the backend ends it (streaming).
func TestE2EBackendStreamsToItsEnd(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	next := make(chan string)
	t.Cleanup(func() { close(next) })
	backend := newRawBackend(t, func(c *rawConn, head string) {
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n")
		for said := range next {
			if said == "" {
				return
			}
			_, _ = io.WriteString(c, said)
		}
	})
	conn := s.dial()
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", s.leads(backend.address), s.cluster)
	must(t, err)
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	for n := range 10 {
		said := fmt.Sprintf("line %d\n", n)
		select {
		case next <- said: // the next is sent only when this one has arrived
		case <-time.After(testkit.Patience):
			t.Fatal("the backend does not take the next line")
		}
		got := make([]byte, len(said))
		_, err := io.ReadFull(resp.Body, got)
		must(t, err)
		if string(got) != said {
			t.Fatalf("%q arrives as %q", said, got)
		}
	}
	next <- ""
	rest, err := io.ReadAll(resp.Body)
	if err != nil || len(rest) > 0 {
		t.Errorf("after the end comes %q, %v", rest, err)
	}
}
