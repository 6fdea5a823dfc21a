package proxy

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// handed is a client's connection that a loop has had, and net/http goes on with: what the loop has read of it is
// read again.
type handed struct {
	net.Conn
	p     *Proxy
	early []byte
	// begun is what became of the request in early; nil: nothing. Who swaps it out has it.
	begun atomic.Pointer[begun]
	// uri is what that request is for, where early says it in a way that net/http takes. Who swaps it out has it.
	uri atomic.Pointer[string]
}

// newHanded gives net/http a connection, and what was read of it.
func newHanded(conn net.Conn, p *Proxy, early []byte, b *begun) *handed {
	h := &handed{Conn: conn, p: p}
	var uri string
	if h.early, uri = escapeLone(early); uri != "" {
		h.uri.Store(&uri)
	}
	h.begun.Store(b)
	return h
}

// escapeLone escapes, in the path of a request's first line, each % that no two hexadecimal digits follow: net/http would refuse
// it, though browsers send it. uri is what stood there; "" where nothing was to be done.
func escapeLone(early []byte) (escaped []byte, uri string) {
	line, _, _ := bytes.Cut(early, []byte("\r\n"))
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, _, whole := bytes.Cut(rest, []byte(" "))
	path, _, _ := bytes.Cut(target, []byte("?"))
	if !whole || !bytes.HasPrefix(path, []byte("/")) || !bytes.ContainsRune(path, '%') {
		return early, ""
	}
	escaped = append(append(escaped, method...), ' ')
	for i, c := range path {
		if escaped = append(escaped, c); c == '%' && (i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2])) {
			escaped = append(escaped, "25"...)
		}
	}
	return append(escaped, early[len(method)+1+len(path):]...), string(target)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func (h *handed) Read(b []byte) (int, error) {
	if len(h.early) > 0 {
		n := copy(b, h.early)
		if h.early = h.early[n:]; len(h.early) == 0 {
			h.early = nil
		}
		return n, nil
	}
	return h.Conn.Read(b)
}

// CloseWrite is what net/http ends a connection with on which more may come.
func (h *handed) CloseWrite() error { return closeWrite(h.Conn) }

// Close closes the connection, and what was begun if no handler has taken it over.
func (h *handed) Close() error {
	if b := h.takeBegun(); b != nil {
		b.discard(h.p)
	}
	return h.Conn.Close()
}

// begun is a request that a loop has begun. It is within the gate.
type begun struct {
	taken func() // tells the loop that its handler has it, or nobody will
	route *route
	ps    *passage // in activity, until another is; then nil
	start time.Time
	added time.Duration
	conn  *backendConn // that was asked; nil: none was
	err   error        // why
}

// replaced takes the passage out of activity: another one is in it.
func (b *begun) replaced(p *Proxy) {
	if b.ps != nil {
		p.activity.leave(b.ps)
		b.ps = nil
	}
}

// close ends what nobody goes on with.
func (b *begun) close(p *Proxy) {
	b.replaced(p)
	if b.conn != nil {
		_ = b.conn.Close()
	}
}

// discard is close for who has not entered the gate for it.
func (b *begun) discard(p *Proxy) {
	b.close(p)
	p.gate.leave()
}

type handedKey struct{}

// handedContext lets a request know of the connection it comes by.
func handedContext(ctx context.Context, conn net.Conn) context.Context {
	if h, ok := conn.(*handed); ok && (h.begun.Load() != nil || h.uri.Load() != nil) {
		return context.WithValue(ctx, handedKey{}, h)
	}
	return ctx
}

// takeBegun gives what was begun of this request, once, and what it is for.
func takeBegun(r *http.Request) *begun {
	h, ok := r.Context().Value(handedKey{}).(*handed)
	if !ok {
		return nil
	}
	if uri := h.uri.Swap(nil); uri != nil {
		r.RequestURI = *uri
	}
	return h.takeBegun()
}

func (h *handed) takeBegun() *begun {
	b := h.begun.Swap(nil)
	if b != nil {
		b.taken()
	}
	return b
}

// hatch is the listener by which net/http gets what loops hand on.
type hatch struct {
	conns chan *handed
	over  chan struct{}
	addr  net.Addr
}

func newHatch(addr net.Addr) *hatch {
	return &hatch{conns: make(chan *handed), over: make(chan struct{}), addr: addr}
}

func (h *hatch) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

// Close is called once, by the HTTP server.
func (h *hatch) Close() error {
	close(h.over)
	return nil
}

func (h *hatch) Addr() net.Addr { return h.addr }

// give hands a connection on, or closes it if nobody serves any more.
func (h *hatch) give(conn *handed) {
	select {
	case h.conns <- conn:
	case <-h.over:
		_ = conn.Close()
		conn.p.door.leave(conn)
	}
}
