package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// target is one way to the backend.
type target struct {
	name    string
	address string
	host    string
	prefix  string   // of paths: /token
	secure  bool     // by https
	process *process // nil for the direct way
}

// ioTimeout is how long a whole round on a connection may take beyond its duration.
const ioTimeout = 30 * time.Second

// httpConn makes requests one after the other on one connection. When something
// goes wrong the next request makes a new one.
type httpConn struct {
	target  target
	path    string
	request []byte
	conn    net.Conn
	buf     []byte
}

// dial connects; the connection is good for timeout, and closed when ctx ends.
func (t *target) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: ioTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	if t.secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the certificate is nobody's
	}
	return conn, conn.SetDeadline(time.Now().Add(timeout))
}

func (c *httpConn) open(ctx context.Context, timeout time.Duration) (err error) {
	size := 4 << 10
	if c.path == downloadPath {
		size = 256 << 10
	}
	c.buf = make([]byte, size)
	c.request = fmt.Appendf(nil, "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: jetway-bench\r\nAccept: */*\r\n\r\n", c.target.prefix, c.path, c.target.host)
	c.conn, err = c.target.dial(ctx, timeout)
	return err
}

func (c *httpConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// do makes one request and reads its response to the end.
func (c *httpConn) do(ctx context.Context) error {
	if c.conn == nil {
		if err := c.open(ctx, ioTimeout); err != nil {
			return err
		}
	}
	err := c.exchange()
	if err != nil {
		c.close()
	}
	return err
}

func (c *httpConn) exchange() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	n, end := 0, -1
	for end < 0 {
		if n == len(c.buf) {
			return errors.New("the response's head is too long")
		}
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return fmt.Errorf("read the response: %w", err)
		}
		n += m
		end = bytes.Index(c.buf[:n], endOfHead)
	}
	left, err := bodyOf(c.buf[:end+2])
	if err != nil {
		return err
	}
	for left -= n - end - len(endOfHead); left > 0; {
		m, err := c.conn.Read(c.buf[:min(left, len(c.buf))])
		if err != nil {
			return fmt.Errorf("read the response's body: %w", err)
		}
		left -= m
	}
	if left < 0 {
		return errors.New("there is more than the response")
	}
	return nil
}

// bodyOf reads how long the body after a head is.
func bodyOf(head []byte) (int, error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("the response is %.60q", head)
	}
	value, ok := headerOf(head, "content-length:")
	if !ok {
		return 0, fmt.Errorf("the response has no length: %q", head)
	}
	size := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("the response's length is %q", value)
		}
		size = size*10 + int(c-'0')
	}
	return size, nil
}

// socketConn is one WebSocket.
type socketConn struct {
	conn    net.Conn
	message []byte // as it is sent
	want    []byte // as it comes back
	buf     []byte
}

// handshake has the key of the protocol's own example.
const handshake = "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

const accepted = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

func openSocket(ctx context.Context, t *target, timeout time.Duration) (*socketConn, error) {
	conn, err := t.dial(ctx, timeout)
	if err != nil {
		return nil, err
	}
	c := &socketConn{conn: conn, buf: make([]byte, 1<<10)}
	if err := c.handshake(t); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open a WebSocket: %w", err)
	}
	payload := bytes.Repeat([]byte("jetway-"), messageSize)[:messageSize]
	c.want = append([]byte{frameBinary, messageSize}, payload...)
	const mask = 0x5a17c3e9
	c.message = []byte{frameBinary, frameMasked | messageSize, mask & 0xff, mask >> 8 & 0xff, mask >> 16 & 0xff, mask >> 24}
	c.message = append(c.message, payload...)
	unmask(c.message[frameHead+frameMask:], mask)
	c.buf = c.buf[:len(c.want)]
	return c, nil
}

func (c *socketConn) handshake(t *target) error {
	if _, err := fmt.Fprintf(c.conn, handshake, t.prefix+socketPath, t.host); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return err
		}
		n += m
		end := bytes.Index(c.buf[:n], endOfHead)
		if end < 0 {
			continue
		}
		if accept, _ := headerOf(c.buf[:end+2], "sec-websocket-accept:"); string(accept) != accepted || !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 101 ")) {
			return fmt.Errorf("the response is %q", c.buf[:end])
		}
		if n != end+len(endOfHead) {
			return errors.New("there is more than the response")
		}
		return nil
	}
}

func (c *socketConn) echo() error {
	if _, err := c.conn.Write(c.message); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.buf); err != nil {
		return fmt.Errorf("read the echo: %w", err)
	}
	if !bytes.Equal(c.buf, c.want) {
		return fmt.Errorf("the echo is %q", c.buf)
	}
	return nil
}

// sockets are WebSockets to one target.
type sockets struct{ all []*socketConn }

// openSockets opens n of them, a few at a time, and has each say something once.
func openSockets(ctx context.Context, t *target, n int, timeout time.Duration) (*sockets, error) {
	s := &sockets{all: make([]*socketConn, n)}
	errs := make([]error, min(n, 16))
	var opening sync.WaitGroup
	for g := range errs {
		opening.Go(func() {
			for i := g; i < n && errs[g] == nil && ctx.Err() == nil; i += len(errs) {
				if s.all[i], errs[g] = openSocket(ctx, t, timeout); errs[g] == nil {
					errs[g] = s.all[i].echo()
				}
			}
		})
	}
	opening.Wait()
	if err := errors.Join(errors.Join(errs...), ctx.Err()); err != nil {
		s.close()
		return nil, fmt.Errorf("open %d WebSockets, %s: %w", n, t.name, err)
	}
	return s, nil
}

func (s *sockets) close() {
	for _, c := range s.all {
		if c != nil {
			_ = c.conn.Close()
		}
	}
}
