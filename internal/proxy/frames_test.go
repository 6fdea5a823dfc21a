package proxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand that a WebSocket which the proxy ends is told why: 1008 when its token was revoked,
// 1001 when the proxy ends.
func TestWebSocketsAreToldWhyTheyEnd(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		for cause, want := range map[string]websocket.StatusCode{"revoked": websocket.StatusPolicyViolation, "drained": websocket.StatusGoingAway} {
			t.Run(fmt.Sprintf("TLS=%t/%s", secure, cause), func(t *testing.T) {
				t.Parallel()
				var w *world
				var c *websocket.Conn
				tok := token("ada")
				if secure {
					w = newTLSWorld(t)
					w.of(tok, "ada", backend(t, echoSocket))
					c = w.secureSocket("/" + tok + "/")
				} else {
					w = newWorld(t)
					w.of(tok, "ada", backend(t, echoSocket))
					c, _ = w.socket("/" + tok + "/")
				}
				equal(t, "echo", say(t, c, "hello"), "hello")
				if cause == "revoked" {
					w.worker.forget(tok)
					w.worker.revoke("be-a", new("ada"), "")
				} else {
					go w.stop()
				}
				_, _, err := c.Read(testkit.Context(t))
				equal(t, "status", websocket.CloseStatus(err), want)
			})
		}
	}
}

// A frame of the proxy's own never stands in another one, nor after the one that ends the WebSocket.
func TestNoFrameWithinAFrame(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{
		"in a payload": "\x82\x05hello\x82\x0aworld",
		"in a head":    "\x82\x05hello\x82",
		"in a length":  "\x82\x05hello\x82\x7e\x01",
		"after close":  "\x82\x05hello\x88\x02\x03\xe8",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tok := token("ada")
			w.of(tok, "ada", backend(t, func(rw http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(rw).Hijack()
				if err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+said[:3])
					_, _ = io.WriteString(c, said[3:])
				}
			}))
			c := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			from := bufio.NewReader(c)
			_, err := http.ReadResponse(from, nil)
			must(t, err)
			heard := make([]byte, len(said))
			_, err = io.ReadFull(from, heard)
			must(t, err)
			equal(t, "what came", string(heard), said)
			w.worker.forget(tok)
			w.worker.revoke("be-a", new("ada"), "")
			more, _ := io.ReadAll(from)
			equal(t, "what came after it", string(more), "")
		})
	}
}

// Whoever floods a client while its WebSocket is ended, what the client hears is whole frames, the last of which may be a part, and
// nothing follows the one that says why.
func TestFramesOfABusyWebSocketStayWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token("ada")
	frame := append([]byte{0x82, 126, 0, 200}, make([]byte, 200)...)
	w.of(tok, "ada", backend(t, func(rw http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for err == nil {
			_, err = c.Write(frame)
		}
		_ = c.Close()
	}))
	told := 0
	for range testkit.Sized(t, 20, 200) {
		c := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		from := bufio.NewReader(c)
		_, err := http.ReadResponse(from, nil)
		must(t, err)
		for n := 0; ; n++ {
			if n == 50 {
				go w.proxy.cut(0, w.proxy.activity.passages("be-a"))
			}
			var head [2]byte
			if _, err := io.ReadFull(from, head[:]); err != nil {
				break
			}
			if head[0] == 0x88 {
				told++
				rest, _ := io.ReadAll(from)
				equal(t, "what ends it", string(head[:])+string(rest), "\x88\x02\x03\xf0")
				break
			}
			equal(t, "a frame's head", string(head[:]), "\x82\x7e")
			if _, err := from.Discard(202); err != nil {
				break
			}
		}
		_ = c.Close()
	}
	t.Logf("%d were told why", told)
	testkit.Eventually(t, "nothing is left", func() bool { return w.inside() == 0 })
}

// Where frames end is known however they come.
func TestFramesAreFollowed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		ends := map[int]bool{0: true}
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			size := rapid.SampledFrom([]int{0, 1, 125, 126, 300, 65535, 65536}).Draw(t, "size")
			masked := byte(rapid.SampledFrom([]int{0, 0x80}).Draw(t, "mask"))
			all = append(all, rapid.SampledFrom([]byte{0x82, 0x01, 0x89, 0xc1}).Draw(t, "first"))
			switch {
			case size < 126:
				all = append(all, masked|byte(size))
			case size < 1<<16:
				all = binary.BigEndian.AppendUint16(append(all, masked|126), uint16(size))
			default:
				all = binary.BigEndian.AppendUint64(append(all, masked|127), uint64(size))
			}
			if masked != 0 {
				all = append(all, 1, 2, 3, 4)
			}
			all = append(all, make([]byte, size)...)
			ends[len(all)] = true
		}
		f, at := new(frames), 0
		for at < len(all) {
			n := rapid.SampledFrom([]int{1, 2, 3, 7, 131, 70000}).Draw(t, "piece")
			n = min(n, len(all)-at)
			f.pass(all[at : at+n])
			at += n
			if f.between() != ends[at] {
				t.Fatalf("after %d bytes: between is %t", at, f.between())
			}
		}
		f.pass([]byte{0x88, 0})
		if f.between() {
			t.Fatal("between, after the frame that ends it")
		}
	})
}
