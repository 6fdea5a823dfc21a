package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/testkit"
)

// calling is how many clients' connections are in the proxy's loops.
func (w *world) calling() (n int) {
	for _, l := range w.proxy.loops {
		l.mu.Lock()
		n += len(l.callers)
		l.mu.Unlock()
	}
	return n
}

// plainGet is a request that is plain.
func plainGet(tok, path string) string {
	return "GET /" + tok + path + " HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n"
}

// asker asks on one connection.
type asker struct {
	net.Conn
	t    testing.TB
	from *bufio.Reader
}

func (w *world) asker() *asker {
	c := w.dial("")
	return &asker{c, w.t, bufio.NewReader(c)}
}

func (a *asker) ask(request string) (status int, body string) {
	a.t.Helper()
	_, err := io.WriteString(a, request)
	must(a.t, err)
	return a.answer(request)
}

func (a *asker) answer(request string) (status int, body string) {
	a.t.Helper()
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(a.from, &http.Request{Method: method})
	must(a.t, err)
	all, err := io.ReadAll(resp.Body)
	must(a.t, err)
	return resp.StatusCode, string(all)
}

// rawBackend answers each request on a connection with what says gives for its first line; "" ends the connection.
func rawBackend(t testing.TB, says func(line string) string) string {
	t.Helper()
	return converse(t, func(c net.Conn, from *bufio.Reader) {
		for {
			head := readHead(from)
			if len(head) == 0 {
				return
			}
			answer := says(strings.TrimSuffix(head[0], "\r\n"))
			if answer == "" {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	})
}

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// The demand that loops carry plain requests from first to last byte: a connection on which nothing else is asked stays there.
func TestLoopsCarryPlainRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token("a")
	w.worker.route(tok, ready("be-a", rawBackend(t, func(line string) string {
		if strings.HasPrefix(line, "HEAD") {
			return hello[:len(hello)-5]
		}
		return hello
	})))
	equal(t, "the first answer", w.get("/"+tok+"/").status, 200) // makes the route known
	a := w.asker()
	for range 20 {
		status, body := a.ask(plainGet(tok, "/x"))
		equal(t, "answer", fmt.Sprint(status, body), "200hello")
		status, body = a.ask("HEAD" + plainGet(tok, "/x")[3:])
		equal(t, "answer to HEAD", fmt.Sprint(status, body), "200")
	}
	equal(t, "connections in loops", w.calling(), 1)
	// What is not plain is net/http's, and all on that connection from then on.
	status, _ := a.ask("POST" + plainGet(tok, "/x")[3:])
	equal(t, "answer to POST", status, 200)
	testkit.Eventually(t, "no connection is in loops", func() bool { return w.calling() == 0 })
	status, _ = a.ask(plainGet(tok, "/x"))
	equal(t, "answer after it", status, 200)
	_ = a.Close()
	w.client.CloseIdleConnections()
	testkit.Eventually(t, "nothing is left", func() bool { return w.inside() == 0 && w.calling() == 0 && w.proxy.clients.Load() == 0 })
}

// The demand that what is odd goes the way that it goes today: a response that is not plain is passed on by
// net/http, and the backend is asked once for it.
func TestOddResponsesGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token("a")
	long := strings.Repeat("x", mostPlain+1)
	odd := map[string][2]string{
		"/chunked":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"},
		"/trailer":   {"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n", "hello"},
		"/closes":    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"/interim":   {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + hello, "hello"},
		"/long":      {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), long},
		"/old":       {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"/more":      {hello + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nolleh", "hello"},
		"/largehead": {"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("y", 40<<10) + "\r\nContent-Length: 5\r\n\r\nhello", "hello"},
	}
	var asked atomic.Int64
	w.worker.route(tok, ready("be-a", rawBackend(t, func(line string) string {
		asked.Add(1)
		path := strings.Fields(line)[1]
		if answer, ok := odd[path]; ok {
			return answer[0]
		}
		return hello
	})))
	equal(t, "the first answer", w.get("/"+tok+"/").status, 200)
	for path, answer := range odd {
		a := w.asker()
		status, body := a.ask(plainGet(tok, "/x"))
		equal(t, "answer", fmt.Sprint(status, body), "200hello")
		asked.Store(0)
		request := plainGet(tok, path)
		_, err := io.WriteString(a, request)
		must(t, err)
		if path == "/interim" {
			status, _ = a.answer(request)
			equal(t, "interim status", status, 103)
		}
		status, body = a.answer(request)
		equal(t, path+": status", status, 200)
		equal(t, path+": body is right", body == answer[1], true)
		equal(t, path+": times asked", asked.Load(), 1)
		_ = a.Close()
	}
	testkit.Eventually(t, "nothing is left", func() bool { return w.inside() == 0 })
}

// A request that a backend closes its connection on, having said nothing, is asked again on another one if it was kept, and
// refused if it was new: as without loops.
func TestLoopsAskAgainOnKeptConnectionsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token("a")
	var ends atomic.Bool
	w.worker.route(tok, ready("be-a", rawBackend(t, func(line string) string {
		if strings.Contains(line, "/never") || ends.Swap(false) {
			return ""
		}
		return hello
	})))
	a := w.asker()
	status, _ := a.ask(plainGet(tok, "/x"))
	equal(t, "answer", status, 200)
	b := w.asker()
	status, _ = b.ask(plainGet(tok, "/x"))
	equal(t, "answer in a loop", status, 200)
	equal(t, "connections in loops", w.calling() > 0, true)
	ends.Store(true)
	status, _ = b.ask(plainGet(tok, "/x"))
	equal(t, "answer on another connection", status, 200)
	c := w.asker()
	status, _ = c.ask(plainGet(tok, "/never"))
	equal(t, "answer where none comes", status, 502)
	testkit.Eventually(t, "nothing is left", func() bool { return w.inside() == 0 })
}

// A lone % in a path reaches the backend, as browsers send it: by a link that is known or not, and whatever goes back.
func TestLonePercentReachesTheBackend(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]string{"plain": "GET", "plain, known": "GET", "odd": "POST"} {
		for _, odd := range []bool{false, true} {
			w := newWorld(t)
			tok := token("a")
			w.worker.route(tok, ready("be-a", rawBackend(t, func(line string) string {
				if odd {
					return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(line), line)
				}
				return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
			})))
			if name == "plain, known" {
				equal(t, "the first answer", w.get("/"+tok+"/").status, 200)
			}
			status, body := w.asker().ask(method + strings.TrimPrefix(plainGet(tok, "/100%/%zz%2?a=%"), "GET"))
			equal(t, fmt.Sprintf("%s, odd answer %t: the backend's request", name, odd), fmt.Sprint(status, body), "200"+method+" /100%/%zz%2?a=% HTTP/1.1")
		}
	}
}

// A client that takes a response in slowly gets all of it, in its time, and the next one too.
func TestSlowClientsOfLoopsGetAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token("a")
	body := strings.Repeat("0123456789", mostPlain/10)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	w.worker.route(tok, ready("be-a", rawBackend(t, func(string) string { return answer })))
	equal(t, "the first answer", w.get("/"+tok+"/").status, 200)
	a := w.asker()
	must(t, a.Conn.(*net.TCPConn).SetReadBuffer(4<<10))
	testkit.Eventually(t, "a loop has it", func() bool { return w.calling() > 0 })
	for _, l := range w.proxy.loops {
		l.mu.Lock()
		for fd := range l.callers {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10)
		}
		l.mu.Unlock()
	}
	_, err := io.WriteString(a, plainGet(tok, "/x"))
	must(t, err)
	testkit.Eventually(t, "it has left its loop", func() bool { return w.inside() == 1 && len(w.proxy.activity.allPassages()) == 1 && w.calling() <= 1 })
	for range 2 {
		status, got := a.answer("GET")
		equal(t, "status", status, 200)
		equal(t, "the body is whole", got == body, true)
		_, err := io.WriteString(a, plainGet(tok, "/x"))
		must(t, err)
	}
}

// What is under way in a loop when the proxy is asked to end gets its answer, be it plain or not, and idle connections are closed.
func TestDrainWithRequestsInLoops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.DrainTimeout = testkit.Patience })
	tok := token("a")
	proceed, came := make(chan struct{}), make(chan struct{}, 2)
	w.worker.route(tok, ready("be-a", rawBackend(t, func(line string) string {
		switch {
		case strings.Contains(line, "/plain"):
			came <- struct{}{}
			<-proceed
			return hello
		case strings.Contains(line, "/odd"):
			came <- struct{}{}
			<-proceed
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
		}
		return hello
	})))
	equal(t, "the first answer", w.get("/"+tok+"/").status, 200)
	idle, plain, odd := w.asker(), w.asker(), w.asker()
	idle.ask(plainGet(tok, "/x"))
	for path, a := range map[string]*asker{"/plain": plain, "/odd": odd} {
		_, err := io.WriteString(a, plainGet(tok, path))
		must(t, err)
	}
	testkit.Receive(t, came, "a request")
	testkit.Receive(t, came, "the other request")
	go w.stop()
	mustBeCut(t, "the idle connection", idle)
	close(proceed)
	for _, a := range []*asker{plain, odd} {
		status, body := a.answer("GET")
		equal(t, "answer", fmt.Sprint(status, body), "200hello")
	}
	w.stop()
}

// Connections in loops that nobody uses are closed, new ones sooner.
func TestI8IdleConnectionsInLoopsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.LimitHeads(time.Millisecond); c.IdleTimeout = testkit.Patience })
	tok := token("a")
	w.worker.route(tok, ready("be-a", rawBackend(t, func(string) string { return hello })))
	equal(t, "the first answer", w.get("/"+tok+"/").status, 200)
	used := w.asker()
	used.ask(plainGet(tok, "/x"))
	fresh := w.asker()
	mustBeCut(t, "a connection on which nothing was asked", fresh)
	status, _ := used.ask(plainGet(tok, "/x"))
	equal(t, "answer", status, 200)
	for _, l := range w.proxy.loops {
		l.sweepCallers(time.Now().Add(2 * testkit.Patience))
	}
	mustBeCut(t, "an idle connection", used)
	testkit.Eventually(t, "all of it is given back", func() bool {
		w.proxy.door.mu.Lock()
		defer w.proxy.door.mu.Unlock()
		return w.calling() == 0 && w.proxy.clients.Load() == w.kept()
	})
}

// kept is how many connections the door counts.
func (w *world) kept() (n int64) {
	for _, of := range w.proxy.door.of {
		n += int64(of)
	}
	return n
}
