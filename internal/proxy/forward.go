package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// passage is what belongs to one request on its way to a backend.
type passage struct {
	route   *route
	target  target
	bodyErr atomic.Pointer[error] // what went wrong with reading the client's body
}

type (
	passageKey struct{}
	connKey    struct{}
)

// passageOf gives the passage of a request that forward passes on.
func passageOf(ctx context.Context) *passage { return ctx.Value(passageKey{}).(*passage) }

// keepConn lets forward find the client's connection.
func keepConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// forward passes the request on and returns when both ways are done, for an
// upgraded connection as well.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, rt *route, t target) {
	p.activity.opened(rt.backend)
	defer p.activity.closed(rt.backend)
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok && isUpgrade(r) {
		// The server no longer knows an upgraded connection, so it cannot close it.
		defer context.AfterFunc(p.serving, func() { _ = conn.Close() })()
	}
	if r.ContentLength != 0 {
		// Else HTTP/1 gives no response before the request's body is at its end.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	ctx := context.WithValue(r.Context(), passageKey{}, &passage{route: rt, target: t})
	p.reverse.ServeHTTP(w, r.WithContext(ctx))
}

func isUpgrade(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }

func (p *Proxy) newReverseProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: modifyResponse,
		ErrorHandler:   p.forwardFailed,
		Transport:      p.transport,
		FlushInterval:  -1,
		BufferPool:     new(buffers),
		// A copy that breaks off is a client or a backend that went away.
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

func rewrite(pr *httputil.ProxyRequest) {
	ps := passageOf(pr.In.Context())
	pr.Out.URL = backendURL(ps.route.address, ps.target.rest, pr.In.URL.RawQuery)
	pr.Out.URL.ForceQuery = pr.In.URL.ForceQuery
	// The Host stays the browser's: backends compare it with Origin.
	pr.SetXForwarded()
	setVerified(pr.Out.Header, ps.route, ps.target.whole)
	dropVerified(pr.Out.Trailer)
	if pr.Out.Body != nil {
		pr.Out.Body = &clientBody{ReadCloser: pr.Out.Body, from: pr.In, trailer: pr.Out.Trailer, passage: ps}
	}
}

func modifyResponse(resp *http.Response) error {
	setGeneral(resp.Header)
	resp.Header.Set(headerBackendID, passageOf(resp.Request.Context()).route.backend)
	return nil
}

// forwardFailed answers for a backend that gave no answer.
func (p *Proxy) forwardFailed(w http.ResponseWriter, r *http.Request, err error) {
	ps := passageOf(r.Context())
	if r.Context().Err() != nil {
		p.abort(r)
	}
	var dial *net.OpError
	switch bodyErr := ps.bodyErr.Load(); {
	case bodyErr != nil && errors.Is(err, *bodyErr):
		p.refuse(w, r, refusal{status: http.StatusBadRequest, reason: "The request's body broke off or is malformed.", route: ps.route, err: err})
	case errors.As(err, &dial) && dial.Op == "dial":
		// Perhaps the backend is elsewhere, or gone: the next one asks.
		p.routes.drop(ps.route)
		p.refuse(w, r, refusal{status: http.StatusBadGateway, reason: "The session's backend cannot be reached.", route: ps.route, err: err})
	default:
		p.refuse(w, r, refusal{status: http.StatusBadGateway, reason: "The session's backend gave no proper answer.", route: ps.route, err: err})
	}
}

// abort ends a request whose client is gone, or that is cut, without a response:
// returning would send an empty 200.
func (p *Proxy) abort(r *http.Request) {
	p.log.DebugContext(r.Context(), "request abandoned", "method", r.Method, "host", r.Host, "err", context.Cause(r.Context()))
	panic(http.ErrAbortHandler)
}

func newTransport(dialTimeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		// No proxy from the environment: backends are addressed directly.
		DialContext:         dialer.DialContext,
		DisableCompression:  true, // what the backend encodes, the browser decodes
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: 128,
		// Below the 5 s after which a Node.js backend closes an idle connection:
		// a request sent just then would be lost.
		IdleConnTimeout:        4 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
}

// bufferSize is what one direction of a body takes in memory.
const bufferSize = 32 << 10

// buffers are those that bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buf[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(buf []byte) { b.pool.Put((*[bufferSize]byte)(buf)) }
