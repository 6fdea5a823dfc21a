package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// longAgo as a deadline ends what is being read or written at once.
var longAgo = time.Unix(1, 0)

// passage is a request under way to a backend, or the upgraded connection that
// became of it: what is cut when its token is revoked, its client leaves, or the
// proxy ends.
type passage struct {
	route   *route
	control *http.ResponseController

	mu      sync.Mutex
	cut     bool
	why     uint16             // what a WebSocket is told that was cut; 0: nothing
	over    bool               // nothing here is the passage's any more
	backend net.Conn           // nil: none yet
	dialing context.CancelFunc // of the connection to come
	client  net.Conn           // once upgraded
	spliced bool               // and it belongs to a splice, which closes it
	carried *splice            // once a loop has both connections
	errand  *errand            // of a loop's; nil: it was never one

	next, prev *passage // in activity, by its lock
	pulse      *pulse   // of its backend; nil: bytes do not count
	quiet      bool     // only bytes do; activity's
}

// dials takes in how to end the dial that is to begin. It says false when the passage has
// been cut.
func (ps *passage) dials(cancel context.CancelFunc) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.dialing = cancel
	return !ps.cut
}

// through takes in the connection to the backend. It says false, and closes it,
// when the passage has been cut.
func (ps *passage) through(conn net.Conn) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.dialing = nil
	if ps.cut {
		_ = conn.Close()
		return false
	}
	ps.backend = conn
	return true
}

// release takes the connection to the backend out, so that another request can use it. It
// says false when the passage has been cut, and the connection with it.
func (ps *passage) release() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.backend = nil
	return !ps.cut
}

// upgraded takes in the client's connection, which the HTTP server no longer knows.
func (ps *passage) upgraded(conn net.Conn) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.control, ps.client = nil, conn
	return !ps.cut
}

// splices takes in that a splice has the connections now: when the passage is cut, it closes them.
func (ps *passage) splices() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.spliced = true; ps.cut {
		_ = ps.client.SetDeadline(longAgo)
	}
}

// carry has a loop take over an upgraded connection, both ends of it. It says false when
// none does.
func (ps *passage) carry(s *splice) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	l := s.p.nextLoop()
	if ps.cut || l == nil || !l.join(s) {
		return false
	}
	ps.carried, ps.client, ps.backend = s, nil, nil
	return true
}

// landed takes back in what a loop has left. It says false when the passage has been cut.
func (ps *passage) landed(client, backend net.Conn) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.cut {
		ps.carried, ps.client, ps.backend = nil, client, backend
	}
	return !ps.cut
}

// end is the last that the passage's owner does with it: its connections and its
// request may be another's from now on.
func (ps *passage) end() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.over, ps.backend, ps.client, ps.control, ps.carried = true, nil, nil, nil, nil
}

// abort cuts the passage: whoever reads or writes for it fails at once.
func (ps *passage) abort() { ps.abortFor(0) }

// abortFor is abort, and why is what a WebSocket is told.
func (ps *passage) abortFor(why uint16) {
	if ps.errand != nil && ps.errand.abort() {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.cut || ps.over {
		return
	}
	ps.cut, ps.why = true, why
	if ps.carried != nil {
		ps.carried.leaveLoop() // which closes it
	}
	if ps.dialing != nil {
		ps.dialing()
	}
	if ps.backend != nil {
		_ = ps.backend.Close()
	}
	switch {
	case ps.client != nil && ps.spliced && why != 0:
		// Who writes to it may end a frame yet; then the splice closes it.
		_ = ps.client.SetReadDeadline(longAgo)
		_ = ps.client.SetWriteDeadline(time.Now().Add(lastWrite))
	case ps.client != nil:
		_ = underTLS(ps.client).Close()
	}
	if ps.control != nil {
		_ = ps.control.SetReadDeadline(longAgo)
		_ = ps.control.SetWriteDeadline(longAgo)
	}
}

// lastWrite is how long what is being written to a client may take when it is cut.
const lastWrite = 100 * time.Millisecond

// cutFor gives what a WebSocket is told that was cut; 0: nothing.
func (ps *passage) cutFor() uint16 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.why
}

func (ps *passage) wasCut() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.cut
}

// underTLS gives the connection below TLS, if there is any: closing that does not wait
// for a client that takes nothing in.
func underTLS(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return conn
}
