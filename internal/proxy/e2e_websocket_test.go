package proxy_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/testkit"
)

// WebSockets pass through unchanged (the demand): each case is played to one
// backend directly and through the proxy, also with the client's bytes one at a time. What
// the client hears is compared byte by byte, from the handshake to the end, and what the
// backend hears with what the client sent; and it is what the protocol says, lest both
// be wrong.
func TestE2EWebSocketsAreTheSameThroughTheProxy(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	backend := newSocketBackend(t)
	path := s.leads(backend.address)
	for _, c := range socketCases(t) {
		t.Run(c.name, func(t *testing.T) {
			direct := backend.play(t, backend.address, "/", s.cluster, c, false)
			direct.check(t, "directly", &c, direct)
			through := backend.play(t, s.addr, path, s.cluster, c, false)
			through.check(t, "through the proxy", &c, direct)
			if len(c.sent) < 1000 {
				through = backend.play(t, s.addr, path, s.cluster, c, true)
				through.check(t, "through the proxy, one byte at a time", &c, direct)
			}
		})
	}
}

// socketBackend echoes messages, as Autobahn asks of a server. It keeps what it hears.
type socketBackend struct {
	address string
	heard   chan string // of one WebSocket, when it has ended
}

func newSocketBackend(t *testing.T) *socketBackend {
	t.Helper()
	b := &socketBackend{heard: make(chan string, 1)}
	server := httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(server.Close)
	b.address = server.Listener.Addr().String()
	return b
}

func (b *socketBackend) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		return // a drone's probe
	}
	ear := &ear{ResponseWriter: w}
	mode := websocket.CompressionContextTakeover
	if strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "no_context_takeover") {
		mode = websocket.CompressionNoContextTakeover
	}
	conn, err := websocket.Accept(ear, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, CompressionMode: mode, Subprotocols: []string{"room"},
	})
	if err != nil {
		return
	}
	defer func() { b.heard <- ear.heard() }()
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(32 << 20)
	for {
		kind, data, err := conn.Read(r.Context())
		switch {
		case err != nil:
			return
		case string(data) == "bye":
			_ = conn.Close(4242, "as you wish")
			return
		case kind == websocket.MessageText && !utf8.Valid(data):
			_ = conn.Close(websocket.StatusInvalidFramePayloadData, "")
			return
		}
		if conn.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

// transcript is what both sides heard.
type transcript struct {
	handshake string // the response, without what every proxy says of itself
	client    string // after it, until the connection's end
	backend   string // after the request's head
}

// play plays a case to whoever listens at addr. chopped sends one byte at a time.
func (b *socketBackend) play(t *testing.T, addr, path, host string, c socketCase, chopped bool) transcript {
	t.Helper()
	conn := dialTo(t, addr)
	defer func() { _ = conn.Close() }()
	offer := ""
	if c.offer != "" {
		offer = "Sec-WebSocket-Extensions: " + c.offer + "\r\n"
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: room, other\r\nOrigin: http://%s\r\n%s\r\n", path, host, host, offer)
	must(t, err)
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	must(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake is answered with %s", resp.Status)
	}
	tr := transcript{handshake: resp.Status}
	for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
		tr.handshake += "\n" + name + ": " + strings.Join(resp.Header.Values(name), ", ")
	}

	// Both ways at once: what is large would not fit in between.
	var sending sync.WaitGroup
	sending.Go(func() {
		if !chopped {
			_, _ = io.WriteString(conn, c.sent) // the backend may end before it has read all
			return
		}
		for i := range len(c.sent) {
			if _, err := conn.Write([]byte{c.sent[i]}); err != nil {
				return
			}
		}
	})
	if c.vanish || c.answer != "" {
		heard := make([]byte, len(c.wanted))
		_, err := io.ReadFull(from, heard)
		must(t, err)
		tr.client = string(heard)
		sending.Wait()
		if c.vanish {
			_ = conn.Close()
		} else {
			_, err = io.WriteString(conn, c.answer)
			must(t, err)
		}
	}
	if !c.vanish {
		heard, err := io.ReadAll(from)
		if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
			t.Fatalf("the connection is not ended after %d bytes, %.100q", len(heard), heard)
		}
		tr.client += string(heard)
		sending.Wait()
	}
	tr.backend = testkit.Receive(t, b.heard, "the backend's end")
	return tr
}

// check compares what both sides heard with what the protocol says, and with what they
// hear without a proxy.
func (tr *transcript) check(t *testing.T, way string, c *socketCase, direct transcript) {
	t.Helper()
	if strings.HasPrefix(c.offer, "permessage-deflate") {
		if !strings.Contains(tr.handshake, "permessage-deflate") || !compressed(tr.client) {
			t.Errorf("%s nothing is compressed: %s, %.100q", way, tr.handshake, tr.client)
		}
	}
	if c.code == 0 {
		same(t, way+" the client", tr.client, "the protocol", c.wanted)
	} else if code := lastClose(tr.client); code != c.code {
		t.Errorf("%s closed with %d, the protocol says %d: %.200q", way, code, c.code, tr.client)
	}
	if !c.unread || !strings.HasPrefix(c.sent, tr.backend) {
		same(t, way+" the backend", tr.backend, "the client", c.sent+c.answer)
	}
	same(t, way+" the handshake", tr.handshake, "directly it", direct.handshake)
	same(t, way+" the client", tr.client, "directly it", direct.client)
}

// compressed says whether a data frame of a server is compressed.
func compressed(heard string) bool {
	for len(heard) >= 2 {
		size, head := int(heard[1]), 2
		switch size {
		case 126:
			size, head = int(binary.BigEndian.Uint16([]byte(heard[2:]))), 4
		case 127:
			size, head = int(binary.BigEndian.Uint64([]byte(heard[2:]))), 10
		}
		if op := heard[0] & 0xf; heard[0]&rsv1 != 0 && (op == opText || op == opBinary) {
			return true
		}
		heard = heard[min(len(heard), head+size):]
	}
	return false
}

// lastClose is the code of the close frame at the end of what a server sent.
func lastClose(heard string) int {
	at := strings.LastIndex(heard, "\x88")
	if at < 0 || len(heard) < at+4 || len(heard) != at+2+int(heard[at+1]) {
		return 0
	}
	return int(binary.BigEndian.Uint16([]byte(heard[at+2:])))
}

// same says where two transcripts part.
func same(t *testing.T, who, got, whom, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s has %d bytes, %s %d; from byte %d on %.80q and %.80q", who, len(got), whom, len(want), at, got[at:], want[at:])
}

// ear keeps what a WebSocket's backend hears.
type ear struct {
	http.ResponseWriter
	net.Conn
	mu   sync.Mutex
	text []byte
}

// Hijack gives the connection with the ear on it.
func (e *ear) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(e.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := both.Reader.Peek(both.Reader.Buffered())
	e.hear(early)
	e.Conn = conn
	return e, both, nil
}

func (e *ear) Write(p []byte) (int, error) { return e.Conn.Write(p) }

func (e *ear) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	e.hear(p[:n])
	return n, err
}

func (e *ear) hear(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = append(e.text, p...)
}

func (e *ear) heard() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.text)
}

// What a backend says last arrives, also when it takes in nothing more and the client is
// still speaking: with WebSockets that is why it closes.
func TestE2ELastWordsOfAnUpgradedConnection(t *testing.T) {
	t.Parallel()
	const lastWords = "why it ends"
	s := newStack(t, nil)
	backend := newRawBackend(t, func(c *rawConn, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n")
		_, _ = c.from.ReadByte()
		_, _ = io.WriteString(c, lastWords)
	})
	path := s.leads(backend.address)
	for n, began := testkit.Sized(t, 30, 100), time.Now(); n > 0; n-- {
		conn := s.dial()
		_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n", path, s.cluster)
		must(t, err)
		var speaking sync.WaitGroup
		speaking.Go(func() {
			for some := make([]byte, 1000); err == nil; {
				_, err = conn.Write(some)
			}
		})
		from := bufio.NewReader(conn)
		head, headErr := http.ReadResponse(from, nil)
		must(t, headErr)
		if head.StatusCode == http.StatusServiceUnavailable && time.Since(began) < testkit.Patience { // the workers did not answer in time
			n++
			_ = conn.Close()
			speaking.Wait()
			continue
		}
		heard := make([]byte, len(lastWords))
		if n, err := io.ReadFull(from, heard); err != nil || string(heard) != lastWords {
			t.Errorf("the client hears %q, %v", heard[:n], err)
		}
		_ = conn.Close()
		speaking.Wait()
	}
}
