package proxy

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it, and nothing hangs on its strength
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/xconnect"
)

// init runs once net/http has been initialized, so it knows that it is to offer tunnels.
func init() { xconnect.Restore() }

// A WebSocket over HTTP/2 (RFC 8441) is one stream of a connection, begun by a CONNECT that names the protocol, and is
// called a tunnel here. The backend gets the handshake of HTTP/1.1 in its place, as any other: so all
// that holds of WebSockets holds of tunnels too. Only that none waits for another: browsers open them at the same time.

// protocolField is where net/http puts the protocol that such a CONNECT names. No client can send a field of that name.
const protocolField = ":protocol"

const (
	webSocketKey    = "Sec-Websocket-Key"
	webSocketAccept = "Sec-Websocket-Accept"
	webSocketGUID   = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

var errHandshake = errors.New("the backend did not take the WebSocket's handshake")

// tunnels makes a request that is to begin a tunnel the handshake of HTTP/1.1, whose ends are the visit's tunnel then. It gives
// why it cannot be one, nil where it can or is another request.
func tunnels(v *visit) *refusal {
	r := v.r
	protocol := r.Header[protocolField]
	switch {
	case protocol == nil:
		return nil
	case r.Method != http.MethodConnect:
		delete(r.Header, protocolField)
		return &refusal{status: http.StatusBadRequest, reason: "A request that names a :protocol is a CONNECT."}
	case len(protocol) != 1 || !strings.EqualFold(protocol[0], "websocket"):
		delete(r.Header, protocolField)
		return &refusal{status: http.StatusNotImplemented, reason: "Of the protocols that a CONNECT may name, this proxy has websocket only."}
	}
	v.tunnel = &tunnel{body: r.Body, w: v.w, control: http.NewResponseController(v.w)}
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	delete(r.Header, "Content-Length")
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	r.Header[webSocketKey] = []string{base64.StdEncoding.EncodeToString(key[:])}
	return nil
}

// acceptsTunnel says that a backend has taken the handshake: the client of a tunnel cannot look at that.
func acceptsTunnel(r *http.Request, h http.Header) bool {
	sum := sha1.Sum([]byte(r.Header.Get(webSocketKey) + webSocketGUID)) //nolint:gosec // as above
	return h.Get(webSocketAccept) == base64.StdEncoding.EncodeToString(sum[:]) && strings.EqualFold(h.Get("Upgrade"), "websocket")
}

// tunnel is a stream as the client's end of a splice. Its request's handler waits until that is over.
type tunnel struct {
	body    io.Reader
	w       http.ResponseWriter
	control *http.ResponseController
	ended   atomic.Bool // the stream ends with the handler, in order
}

func (t *tunnel) Read(b []byte) (int, error) { return t.body.Read(b) }

func (t *tunnel) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	if err == nil {
		err = t.control.Flush()
	}
	return n, err
}

// Close ends the stream by force, unless it ends in order.
func (t *tunnel) Close() error {
	if !t.ended.Load() {
		_ = t.control.SetWriteDeadline(longAgo)
	}
	return t.control.SetReadDeadline(longAgo)
}

// CloseWrite ends the stream in order. One way of it cannot end alone, for it ends when its handler returns.
func (t *tunnel) CloseWrite() error {
	t.ended.Store(true)
	return t.control.SetReadDeadline(longAgo)
}

// SetReadDeadline ends reading for good when the time has come. That is why it does not at once: what the client sends
// then would have the stream reset, and cost it what it is still to be told. What is read of one that is cut goes nowhere.
func (t *tunnel) SetReadDeadline(when time.Time) error {
	if when.Equal(longAgo) {
		return nil
	}
	return t.control.SetReadDeadline(when)
}

func (t *tunnel) SetWriteDeadline(when time.Time) error { return t.control.SetWriteDeadline(when) }

func (t *tunnel) SetDeadline(when time.Time) error {
	return errors.Join(t.SetReadDeadline(when), t.SetWriteDeadline(when))
}

func (t *tunnel) LocalAddr() net.Addr  { return noAddr{} }
func (t *tunnel) RemoteAddr() net.Addr { return noAddr{} }

type noAddr struct{}

func (noAddr) Network() string { return "http2" }
func (noAddr) String() string  { return "a stream" }

// openTunnel is switchProtocols for a tunnel. It returns when that is over.
func (x *exchange) openTunnel() error {
	t := x.v.tunnel
	x.uncut() // by the request's context: the splice sees for itself that the client is gone
	if !x.ps.upgraded(t) {
		return net.ErrClosed
	}
	h := x.w.Header()
	x.out.answerFields(h, x.resp.Header)
	delete(h, webSocketAccept)
	delete(h, "Content-Length")
	x.begun = true
	x.w.WriteHeader(http.StatusOK)
	late, err := x.conn.in.Peek(x.conn.in.Buffered())
	if err != nil {
		return err
	}
	if _, err := t.Write(late); err != nil {
		return err
	}
	x.answered()
	over := make(chan struct{})
	s := x.newUpgrade(t, nil, late)
	s.left = func() { close(over) }
	s.begin()
	<-over
	return nil
}
