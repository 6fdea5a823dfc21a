package bench

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what WebSockets are opened with
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// What the backend of the proxy's bench serves.
const (
	smallPath, downloadPath, socketPath = "/small", "/download", "/socket"

	smallSize    = 100
	downloadSize = 1 << 20
	messageSize  = 64
)

// ServeBackend is the backend behind the proxies that are measured: HTTP/1.1
// without bodies of requests, and an echo of short messages on WebSockets. It is as
// lean as it can be, so that it is not what is measured, and for this bench alone:
// it answers requests of the bench, of proxies and of a drone's probe, no others. It
// serves until ctx ends.
func ServeBackend(ctx context.Context, listener net.Listener) error {
	var mu sync.Mutex
	open := make(map[net.Conn]struct{})
	defer context.AfterFunc(ctx, func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for conn := range open {
			_ = conn.Close()
		}
	})()
	var serving sync.WaitGroup
	defer serving.Wait()
	b := newBackend()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		mu.Lock()
		open[conn] = struct{}{}
		mu.Unlock()
		serving.Go(func() {
			b.serve(conn)
			_ = conn.Close()
			mu.Lock()
			defer mu.Unlock()
			delete(open, conn)
		})
	}
}

type benchBackend struct {
	responses map[string][]byte // by path
	notFound  []byte
}

func newBackend() *benchBackend {
	return &benchBackend{
		responses: map[string][]byte{
			"/":          response("200 OK", smallSize),
			smallPath:    response("200 OK", smallSize),
			downloadPath: response("200 OK", downloadSize),
		},
		notFound: response("404 Not Found", smallSize),
	}
}

func response(status string, size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", status, size)
	return append([]byte(head), strings.Repeat("x", size)...)
}

var endOfHead = []byte("\r\n\r\n")

// maxHead is the longest head of a request that is taken.
const maxHead = 16 << 10

// serve answers one request after the other. What it does not understand ends the
// connection.
func (b *benchBackend) serve(conn net.Conn) {
	buf := make([]byte, maxHead)
	n := 0
	for {
		end := bytes.Index(buf[:n], endOfHead)
		if end < 0 {
			if n == len(buf) {
				return
			}
			m, err := conn.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			continue
		}
		head := buf[:end+2]
		method, rest, _ := bytes.Cut(head, []byte(" "))
		path, _, _ := bytes.Cut(rest, []byte(" "))
		if string(path) == socketPath {
			if _, err := conn.Write(accept(head)); err == nil {
				// Nothing follows a handshake before its answer.
				echoMessages(conn, buf)
			}
			return
		}
		answer, ok := b.responses[string(path)]
		if !ok {
			answer = b.notFound
		}
		if string(method) == "HEAD" {
			answer = answer[:bytes.Index(answer, endOfHead)+len(endOfHead)]
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
		n = copy(buf, buf[end+len(endOfHead):n])
	}
}

// headerOf finds a header's value in a head; name is lower case with its colon.
func headerOf(head []byte, name string) (value []byte, ok bool) {
	for len(head) > 0 {
		line := head
		if end := bytes.Index(head, endOfHead[:2]); end >= 0 {
			line, head = head[:end], head[end+2:]
		} else {
			head = nil
		}
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name):]), true
		}
	}
	return nil, false
}

// accept answers the handshake of a WebSocket.
func accept(head []byte) []byte {
	key, _ := headerOf(head, "sec-websocket-key:")
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...)) //nolint:gosec // what the protocol says
	return fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
}

// Frames of the messages: final and binary, from the client with a mask.
const (
	frameBinary = 0x82
	frameClose  = 0x88
	frameMasked = 0x80
	frameHead   = 2
	frameMask   = 4
)

// echoMessages sends back messages of up to 125 bytes until something else comes.
func echoMessages(conn net.Conn, buf []byte) {
	n := 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		out, used, err := echoes(buf[:n])
		if err != nil {
			return
		}
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
		n = copy(buf, buf[used:n])
	}
}

// echoes turns the whole frames at the beginning of buf, in place, into what they
// are answered with, and says how many bytes of buf they took.
func echoes(buf []byte) (out []byte, used int, err error) {
	out = buf[:0]
	for len(buf)-used >= frameHead+frameMask {
		frame := buf[used:]
		size := int(frame[1] &^ frameMasked)
		if frame[0] != frameBinary || frame[1]&frameMasked == 0 || size > 125 {
			return nil, 0, errors.New("not a short binary message")
		}
		whole := frameHead + frameMask + size
		if len(frame) < whole {
			break
		}
		mask := binary.LittleEndian.Uint32(frame[frameHead:])
		payload := frame[frameHead+frameMask : whole]
		at := len(out)
		out = append(out, frameBinary, byte(size))
		out = append(out, payload...)
		unmask(out[at+frameHead:], mask)
		used += whole
	}
	return out, used, nil
}

func unmask(p []byte, mask uint32) {
	wide := uint64(mask)<<32 | uint64(mask)
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
	}
	for i := range p {
		p[i] ^= byte(mask >> (8 * (i % 4)))
	}
}
