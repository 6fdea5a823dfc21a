package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// idleConnsPerBackend and idleConns bound the connections that wait for a request.
	idleConnsPerBackend = 128
	idleConns           = 4096
	// headSize is what a connection holds to read heads with.
	headSize = 4 << 10
	// headBytes bounds the heads of one response, interim ones included.
	headBytes = 256 << 10
)

var errHeadTooLarge = errors.New("the head of the response is too large")

// place is a backend at its address: what is left of another one that had the address before is not it.
type place struct{ backend, address string }

func (r *route) place() place { return place{r.backend, r.address} }

// backendConn is an HTTP/1.1 connection to a backend. One request at a time uses it.
type backendConn struct {
	net.Conn
	to  place
	raw syscall.RawConn
	in  *bufio.Reader // reads the connection through Read

	headLeft int  // bytes that the head may still have; negative: none is being read
	heard    bool // something came since the request was begun
	reused   bool
	asked    bool      // a loop has sent the request
	idle     time.Time // since when
	// What a loop has read of the response, and how reading failed there; see begin.
	early  []byte
	failed error

	// What looks at the socket without taking anything. The functions are allocated once.
	peeked      [1]byte
	found       error
	waits       bool
	peek, await func(fd uintptr) bool
}

// readers are for the heads of responses.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headSize) }}

// doneReading gives the reader away: what comes from here on is read from the connection itself.
func (c *backendConn) doneReading() {
	if in := c.in; in.Size() == headSize {
		in.Reset(nil)
		readers.Put(in)
	}
	c.in = nil
}

func newBackendConn(conn net.Conn, to place) (*backendConn, error) {
	c := &backendConn{Conn: conn, to: to, headLeft: -1}
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a connection of the system")
	}
	var err error
	if c.raw, err = sys.SyscallConn(); err != nil {
		return nil, err
	}
	c.in = readers.Get().(*bufio.Reader)
	c.in.Reset(c)
	c.peek = func(fd uintptr) bool {
		var n int
		if n, _, c.found = syscall.Recvfrom(int(fd), c.peeked[:], syscall.MSG_PEEK); n == 0 && c.found == nil {
			c.found = io.EOF
		}
		return true
	}
	c.await = func(fd uintptr) bool {
		if c.waits {
			return true // woken
		}
		c.waits = true
		return c.peek(fd) && !errors.Is(c.found, syscall.EAGAIN)
	}
	return c, nil
}

// begin lets the response begin with what was read of it before, and end as reading failed then, if it did.
func (c *backendConn) begin(early []byte, failed error) {
	c.early, c.failed, c.headLeft = early, failed, headBytes
	if len(early) > 0 {
		// All of it is to be in the buffer: what is there says whether reading must wait.
		c.in = bufio.NewReaderSize(c, max(headSize, len(early)))
		_, _ = c.in.Peek(len(early))
	}
}

// Read is for c.in.
func (c *backendConn) Read(p []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLarge
	}
	if c.headLeft > 0 && len(p) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.read(p)
	if n > 0 {
		c.heard = true
		if c.headLeft > 0 {
			c.headLeft -= n
		}
	}
	return n, err
}

func (c *backendConn) read(p []byte) (int, error) {
	switch {
	case len(c.early) > 0:
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	case c.failed != nil:
		return 0, c.failed
	}
	return c.Conn.Read(p)
}

// silent says that reading would have to wait now: no bytes are there, no end and no error.
func (c *backendConn) silent() bool {
	return c.in.Buffered() == 0 && c.raw.Read(c.peek) == nil && errors.Is(c.found, syscall.EAGAIN)
}

// wait returns when reading need not wait.
func (c *backendConn) wait() {
	c.waits = false
	_ = c.raw.Read(c.await) // reading says what is wrong
}

// upstream owns the connections to backends that wait for a request. Those in use
// belong to who uses them.
type upstream struct {
	dialer net.Dialer

	loops []*loop // which have connections of their own

	mu    sync.Mutex
	idle  map[place][]*backendConn // the latest last
	count int
	shut  bool
}

func newUpstream(dialTimeout time.Duration) *upstream {
	return &upstream{dialer: net.Dialer{Timeout: dialTimeout}, idle: make(map[place][]*backendConn)}
}

// get gives an idle connection to a backend, nil when there is none.
func (u *upstream) get(to place) *backendConn {
	for c := u.take(to); c != nil; c = u.take(to) {
		// What has been closed, or said something unasked, is of no use.
		if c.silent() {
			c.reused, c.heard, c.headLeft = true, false, headBytes
			return c
		}
		_ = c.Close()
	}
	for _, l := range u.loops {
		conn := l.release(to)
		if conn == nil {
			continue
		}
		if c, err := newBackendConn(conn, to); err == nil && c.silent() {
			c.reused, c.headLeft = true, headBytes
			return c
		}
		_ = conn.Close()
	}
	return nil
}

func (u *upstream) dial(ctx context.Context, to place) (*backendConn, error) {
	conn, err := u.dialer.DialContext(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	c, err := newBackendConn(conn, to)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.headLeft = headBytes
	return c, nil
}

func (u *upstream) take(to place) *backendConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.idle[to]
	if len(list) == 0 {
		return nil
	}
	last := len(list) - 1
	c := list[last]
	list[last] = nil
	u.idle[to] = list[:last]
	u.count--
	return c
}

// put takes back a connection on which a response has ended.
func (u *upstream) put(c *backendConn) {
	c.idle = time.Now()
	if c.in.Size() > headSize {
		c.in = bufio.NewReaderSize(c, headSize)
	}
	u.mu.Lock()
	list := u.idle[c.to]
	full := u.shut || u.count >= idleConns || len(list) >= idleConnsPerBackend
	if !full {
		u.idle[c.to] = append(list, c)
		u.count++
	}
	u.mu.Unlock()
	if full {
		_ = c.Close()
	}
}

// sweep closes what has been idle since before.
func (u *upstream) sweep(before time.Time) {
	var old []*backendConn
	u.mu.Lock()
	for to, list := range u.idle {
		n := 0
		for n < len(list) && list[n].idle.Before(before) {
			n++
		}
		old = append(old, list[:n]...)
		u.count -= n
		if n == len(list) {
			delete(u.idle, to)
		} else if n > 0 {
			u.idle[to] = append([]*backendConn(nil), list[n:]...)
		}
	}
	u.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
	for _, l := range u.loops {
		l.sweepCallees(before)
	}
}

// close closes what is idle, and what gets idle from now on.
func (u *upstream) close() {
	u.mu.Lock()
	u.shut = true
	u.mu.Unlock()
	u.sweep(time.Now().Add(time.Hour))
}
