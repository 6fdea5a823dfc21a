package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// interims is the most interim (1xx) responses to one request.
const interims = 256

var (
	errInterims  = errors.New("too many interim responses")
	errSwitching = errors.New("the backend changed to a protocol that the client did not ask for")
	// errDistrusted says that the route got too old while the request was on its way.
	errDistrusted = errors.New("no worker has vouched for the route for too long")
	errStatus     = errors.New("not a status that a response may have")
)

// exchange is one request and its response. All of it happens in the goroutine of
// the request, but for the request's body.
type exchange struct {
	p    *Proxy
	v    *visit
	w    http.ResponseWriter
	r    *http.Request
	out  outgoing
	ps   *passage
	conn *backendConn
	up   *upload // nil: the request has no body
	// proceed is to be closed when the client may send its body; nil: it need not be told.
	proceed chan struct{}
	resp    *http.Response
	// respAt is when the head of the response had come.
	respAt    time.Time
	buffer    []byte          // nil: none is needed now
	announced map[string]bool // trailers of the response
	// begun says that the response to the client has begun.
	begun bool
	uncut func() bool // the request's context cuts it no more
}

// forward passes the request on and returns when both ways are done, or when the
// connection was upgraded and goes on by itself.
func (p *Proxy) forward(v *visit, rt *route, t target) {
	w, r := v.w, v.r
	v.route, v.backend = rt, rt.backend
	x := &exchange{p: p, v: v, w: w, r: r, out: newOutgoing(r, t, rt, p.originOf(r))}
	x.ps = &passage{route: rt, control: http.NewResponseController(w)}
	p.activity.enter(x.ps)
	if v.begun != nil {
		if v.begun.ps.wasCut() {
			x.ps.abort()
		}
		v.begun.replaced(p)
	}
	defer func() {
		if !v.handedOn {
			x.ps.end()
			p.activity.leave(x.ps)
		}
	}()
	// From here on a revocation cuts the passage; one that came before is seen here.
	if p.revoked(rt) {
		p.refuse(v, goneAt(rt))
		return
	}
	x.uncut = context.AfterFunc(r.Context(), x.ps.abort)
	defer x.uncut()
	if err := x.ask(); err != nil {
		x.failed(err)
		return
	}
	if x.resp.StatusCode == http.StatusSwitchingProtocols {
		if err := x.switchProtocols(); err != nil {
			x.failed(err)
		}
		return
	}
	if err := x.relay(); err != nil {
		x.failed(err)
	}
}

// heads are for the heads of requests.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// ask sends the request and reads the head of the response, on another connection
// should the backend have closed the one at hand just then.
func (x *exchange) ask() error {
	head := heads.Get().(*[]byte)
	defer heads.Put(head)
	*head = x.out.appendHead((*head)[:0])
	for {
		conn, err := x.connect()
		if err != nil {
			return err
		}
		x.conn = conn
		if !x.ps.through(conn.Conn) {
			return net.ErrClosed
		}
		sent := len(*head)
		if conn.asked {
			conn.asked = false
		} else {
			sent, err = conn.Write(*head)
			x.v.added = time.Since(x.v.start) - x.v.held
		}
		if err == nil {
			x.beginUpload()
			err = x.readHead()
		}
		if err == nil {
			return nil
		}
		again := conn.reused && !conn.heard && x.up == nil && (sent == 0 || x.out.replayable())
		if !again || x.ps.wasCut() {
			return err
		}
		_ = conn.Close()
	}
}

// connect gives an idle connection to the backend, else a new one. The error of a failed
// dial is a *net.OpError.
func (x *exchange) connect() (*backendConn, error) {
	to := x.out.route.place()
	if b := x.v.begun; b != nil && b.route == x.out.route && (b.conn != nil || b.err != nil) {
		x.v.begun, x.v.added = nil, b.added
		return b.conn, b.err
	}
	if conn := x.p.upstream.get(to); conn != nil {
		return conn, nil
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	if !x.ps.dials(cancel) {
		return nil, net.ErrClosed
	}
	conn, err := x.p.upstream.dial(ctx, to)
	// Now, for who is at the other end was there when the connection was made: had the proxy been stopped
	// before, the address might be another's by then.
	if err == nil && !x.p.routes.trusts(x.out.route, x.p.routes.clock()) {
		_ = conn.Close()
		return nil, errDistrusted
	}
	return conn, err
}

func (x *exchange) beginUpload() {
	if x.out.length == 0 {
		return
	}
	// Else HTTP/1 gives no response before the request's body is at its end.
	_ = x.ps.control.EnableFullDuplex()
	x.up = &upload{
		from: x.r.Body, to: x.conn, length: x.out.length, trailer: x.r.Trailer, announce: x.out.trailers,
		over: make(chan struct{}), done: make(chan struct{}),
	}
	if x.out.expects {
		x.proceed = make(chan struct{})
		x.up.proceed, x.up.patience = x.proceed, x.p.cfg.waits.proceed
	}
	x.v.uploading = true
	go x.up.run() // waited for by settle and failed
}

// readHead reads responses until the final one, and passes interim ones on.
func (x *exchange) readHead() error {
	for range interims {
		resp, err := http.ReadResponse(x.conn.in, x.r) //nolint:bodyclose // the connection is what is given back or closed
		if err != nil {
			return err
		}
		x.resp, x.respAt = resp, time.Now()
		switch code := resp.StatusCode; {
		case code == http.StatusContinue:
			if x.proceed != nil {
				close(x.proceed)
				x.proceed = nil
			}
		case code == http.StatusSwitchingProtocols:
			if x.out.upgrade == "" || !lists(resp.Header["Connection"], "upgrade") {
				return errSwitching
			}
			if x.v.tunnel != nil && !acceptsTunnel(x.r, resp.Header) {
				return errHandshake
			}
			x.conn.headLeft = -1
			return nil
		case code < 100:
			return fmt.Errorf("%d: %w", code, errStatus)
		case code < 200:
			x.relayInterim()
		case code < 300 && x.v.tunnel != nil:
			return errHandshake // a tunnel's client would take the page for the WebSocket
		default:
			x.conn.headLeft = -1
			return nil
		}
	}
	return errInterims
}

// failed ends the exchange where it broke off: with a page if it still can.
func (x *exchange) failed(err error) {
	if x.conn != nil {
		_ = x.conn.Close()
	}
	if x.begun || x.ps.wasCut() || x.r.Context().Err() != nil {
		x.stopUpload(longAgo)
		if x.begun {
			_ = http.NewResponseController(x.w).Flush() // what came of it is the client's
		}
		x.p.abort(x.r, err)
	}
	why := refusal{status: http.StatusBadGateway, reason: "The session's backend gave no proper answer.", route: x.out.route, err: err}
	if errors.Is(err, errDistrusted) {
		why.status, why.reason = http.StatusServiceUnavailable, unfound
	}
	var dial *net.OpError
	switch {
	case noneLeft(err):
		x.p.sayFull(err)
		why.status, why.reason = http.StatusServiceUnavailable, "This proxy has too many connections. Try again in a moment."
	case errors.As(err, &dial) && dial.Op == "dial":
		// Perhaps the backend is elsewhere, or gone: the next one asks.
		x.p.routes.drop(x.out.route)
		why.reason = "The session's backend cannot be reached."
	}
	if x.up != nil {
		if fault := x.up.fault.Load(); fault != nil {
			why.status, why.reason, why.err = http.StatusBadRequest, "The request's body broke off or is malformed.", *fault
		}
		x.closeAfter()
	}
	x.p.refuse(x.v, why)
	x.linger()
}

// abort ends a request whose client is gone, or that is cut, without a response:
// returning would send an empty 200.
func (p *Proxy) abort(r *http.Request, err error) {
	p.log.DebugContext(r.Context(), "request abandoned", "method", r.Method, "host", r.Host, "err", err)
	panic(http.ErrAbortHandler)
}

// closeAfter has the client's connection closed after the response if the request is
// not read to its end: the rest must not be taken for another request. It must
// be called before the response begins.
func (x *exchange) closeAfter() {
	if (x.up != nil && !x.up.taken.Load() && x.r.ProtoMajor == 1) || ambiguous(x.r) {
		x.w.Header().Set("Connection", "close")
	}
}

// settle ends the request's body after the response, and says whether all of it went to the
// backend, so that the connection can be used again.
func (x *exchange) settle() bool {
	if x.up == nil {
		return true
	}
	if x.up.taken.Load() {
		timer := time.NewTimer(x.p.cfg.waits.settle)
		defer timer.Stop()
		select {
		case <-x.up.done:
			x.v.received = x.up.bytes
			return x.up.sent
		case <-timer.C:
		}
	}
	_ = x.conn.Close() // the backend has answered without it
	x.linger()
	return false
}

// linger lets a client that is still sending its request see that the response is there.
func (x *exchange) linger() {
	if x.up == nil {
		return
	}
	if x.r.ProtoMajor != 1 {
		x.stopUpload(longAgo) // HTTP/2 has a word for it
		return
	}
	_ = x.ps.control.Flush()
	x.stopUpload(time.Now().Add(x.p.cfg.waits.linger))
}

// stopUpload waits until nobody reads the request's body any more, until then at most.
func (x *exchange) stopUpload(then time.Time) {
	if x.up == nil {
		return
	}
	close(x.up.over)
	_ = x.ps.control.SetReadDeadline(then)
	<-x.up.done
	x.v.received = x.up.bytes
}

// answered notes that the head of the backend's answer has been passed on.
func (x *exchange) answered() {
	x.begun = true
	x.p.activity.passed(x.ps)
	if x.up == nil || x.up.taken.Load() {
		x.p.activity.settled(x.ps)
	}
	x.v.status, x.v.forwarded = x.resp.StatusCode, true
	x.v.added += time.Since(x.respAt)
	x.p.metrics.Forwarded(x.v.status, x.v.added)
}
