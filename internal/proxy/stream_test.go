package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/testkit"
)

// echoSocket is a backend that says what it is told, on a WebSocket.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"room"}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(data) == "bye" {
			_ = c.Close(4242, "as you wish")
			return
		}
		if c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

// socket opens a WebSocket through the proxy, as a page at the proxy would.
func (w *world) socket(path string) (*websocket.Conn, *http.Response) {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	c, resp, err := websocket.Dial(ctx, "ws://"+cluster+path, &websocket.DialOptions{
		HTTPClient:   w.client,
		HTTPHeader:   http.Header{"Origin": {"http://" + cluster}},
		Subprotocols: []string{"room"},
	})
	must(w.t, err)
	w.t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return c, resp
}

func say(t *testing.T, c *websocket.Conn, text string) string {
	t.Helper()
	ctx := testkit.Context(t)
	must(t, c.Write(ctx, websocket.MessageText, []byte(text)))
	_, data, err := c.Read(ctx)
	must(t, err)
	return string(data)
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echoSocket)
	c, resp := w.socket("/" + tok + "/ws")
	equal(t, "subprotocol", c.Subprotocol(), "room")
	equal(t, "backend", resp.Header.Get(headerBackendID), "be-a")
	equal(t, "echo", say(t, c, "hello"), "hello")
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	if say(t, c, big) != big {
		t.Error("a large message came back changed")
	}
	must(t, c.Write(t.Context(), websocket.MessageText, []byte("bye")))
	_, _, err := c.Read(t.Context())
	equal(t, "close code", websocket.CloseStatus(err), 4242)
	testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 })
}

func TestWebSocketWithoutSlashAndWhenTheClientVanishes(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echoSocket)
	c, _ := w.socket("/" + tok)
	equal(t, "echo", say(t, c, "hello"), "hello")
	_ = c.CloseNow()
	testkit.Eventually(t, "the request to end", func() bool { return w.inside() == 0 })
}

// Any other upgrade, with the two directions closed one after the other.
func TestOtherUpgrade(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.worker.route(tok, ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
		said, _ := io.ReadAll(c)
		_, _ = io.WriteString(c, strings.ToUpper(string(said)))
	})))
	conn := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	equal(t, "status", resp.StatusCode, http.StatusSwitchingProtocols)
	_, err = io.WriteString(conn, "hello")
	must(t, err)
	must(t, conn.(*net.TCPConn).CloseWrite())
	heard, err := io.ReadAll(from)
	must(t, err)
	equal(t, "heard", string(heard), "HELLO")
}

func TestServerSentEventsAreFlushedAtOnce(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	next := make(chan string)
	w.leads(tok, "be-a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for data := range next {
			_, _ = fmt.Fprintf(w, "data: %s\n", data)
			_ = http.NewResponseController(w).Flush()
		}
	})
	resp, err := w.client.Get("http://" + cluster + "/" + tok + "/")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for _, data := range []string{"one", "two", "three"} {
		next <- data // the next is sent only when this one has arrived
		line, err := lines.ReadString('\n')
		must(t, err)
		equal(t, "event", line, "data: "+data+"\n")
	}
	close(next)
}

func TestStreamsBothWays(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = rc.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = fmt.Fprintf(w, "%s!\n", lines.Text())
			_ = rc.Flush()
		}
	})
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cluster+"/"+tok+"/", body)
	must(t, err)
	resp, err := w.client.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for _, text := range []string{"one", "two", "three"} {
		_, err := io.WriteString(feed, text+"\n")
		must(t, err)
		line, err := lines.ReadString('\n')
		must(t, err)
		equal(t, "line", line, text+"!\n")
	}
	must(t, feed.Close())
}

// Bodies of any size pass, both ways (I8: TestMemoryOfLargeBodiesIsConstant).
func TestLargeBodies(t *testing.T) {
	w := newWorld(t)
	size := testkit.Sized[int64](t, 8<<20, 256<<20)
	w.passLarge(size)
}

// I8: bodies pass in constant memory: for twice as much hardly more is allocated.
func TestMemoryOfLargeBodiesIsConstant(t *testing.T) {
	w := newWorld(t)
	allocates := func(size int64) int64 {
		before := allocated()
		w.passLarge(size)
		return int64(allocated() - before)
	}
	size := testkit.Sized[int64](t, 8<<20, 32<<20)
	allocates(size) // what pools keep from now on
	once, twice := allocates(size), allocates(2*size)
	for range 9 { // whatever else the process allocates meanwhile only adds
		once, twice = min(once, allocates(size)), min(twice, allocates(2*size))
		if twice-once <= size/16 {
			return
		}
	}
	t.Errorf("%d KiB are allocated for passing %d MiB both ways, %d KiB for twice as much", once>>10, size>>20, twice>>10)
}

// largeBodies is a backend that takes a body of a size and answers with one.
func largeBodies(size int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != size {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = io.CopyN(w, zeros{}, size)
	}
}

// passLarge passes a body of a size to such a backend, and one back.
func (w *world) passLarge(size int64) {
	w.t.Helper()
	tok := token(fmt.Sprint(size))
	w.leads(tok, "be-a", largeBodies(size))
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+cluster+"/"+tok+"/", io.LimitReader(zeros{}, size))
	must(w.t, err)
	resp, err := w.client.Do(req)
	must(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(io.Discard, resp.Body)
	must(w.t, err)
	equal(w.t, "status", resp.StatusCode, http.StatusOK)
	equal(w.t, "bytes", n, size)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestTrailersHeadAndExpect(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "7")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cluster+"/"+tok+"/", strings.NewReader("hello"))
	must(t, err)
	req.Header.Set("Expect", "100-continue")
	resp, err := w.client.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	equal(t, "body", string(body), "hello")
	equal(t, "trailer", resp.Trailer.Get("X-Sum"), "7")

	head, err := w.client.Head("http://" + cluster + "/" + tok + "/")
	must(t, err)
	defer func() { _ = head.Body.Close() }()
	equal(t, "HEAD", head.StatusCode, http.StatusOK)
}

// I8: however many long responses flow, most of them do so through small buffers.
func TestLargeBuffersAreBounded(t *testing.T) {
	var taken [][]byte
	for range mostLarge {
		taken = append(taken, takeFor(largeFrom))
	}
	equal(t, "the last large one", len(taken[mostLarge-1]), largeSize)
	equal(t, "one more", len(takeFor(largeFrom)), bufferSize)
	for _, b := range taken {
		giveBack(b)
	}
	equal(t, "after they are given back", len(takeFor(largeFrom-1)), bufferSize)
	again := takeFor(largeFrom)
	equal(t, "after they are given back", len(again), largeSize)
	giveBack(again)
	equal(t, "in use", largeInUse.Load(), 0)
}
