package proxy

import (
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
	if b := h.begun.Swap(nil); b != nil {
		b.discard(h.p)
	}
	return h.Conn.Close()
}

// begun is a request that a loop has begun. It is within the gate.
type begun struct {
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
	if h, ok := conn.(*handed); ok && h.begun.Load() != nil {
		return context.WithValue(ctx, handedKey{}, h)
	}
	return ctx
}

// takeBegun gives what was begun of this request, once.
func takeBegun(r *http.Request) *begun {
	if h, ok := r.Context().Value(handedKey{}).(*handed); ok {
		return h.begun.Swap(nil)
	}
	return nil
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
