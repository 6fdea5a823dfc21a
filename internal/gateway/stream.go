package gateway

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// sse is an open stream of server-sent events.
type sse struct {
	// conn is the connection over HTTP/1, taken from the server: so a silent stream costs neither the server's
	// buffers nor its goroutines. Over HTTP/2, and where it is not taken, it is nil.
	conn    net.Conn
	chunked bool
	w       http.ResponseWriter
	rc      *http.ResponseController
	wait    time.Duration
}

// openStream sends the head of a stream. take says that the caller has a goroutine of its own for it.
func (c *call) openStream(take bool) (*sse, error) {
	c.status = http.StatusOK
	s := &sse{w: c.w, rc: http.NewResponseController(c.w), wait: c.g.cfg.waits.write}
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // of nginx
	h.Set("X-Content-Type-Options", "nosniff")
	if !take || c.r.ProtoMajor != 1 {
		c.w.WriteHeader(http.StatusOK)
		_ = s.rc.SetWriteDeadline(time.Now().Add(s.wait))
		return s, s.flush(nil)
	}
	conn, _, err := s.rc.Hijack()
	if err != nil {
		return nil, err
	}
	s.conn, s.w, s.rc = conn, nil, nil
	_ = conn.SetDeadline(time.Time{})
	s.chunked = c.r.ProtoAtLeast(1, 1)
	var head strings.Builder
	fmt.Fprintf(&head, "HTTP/1.%d 200 OK\r\n", c.r.ProtoMinor)
	if s.chunked {
		h.Set("Transfer-Encoding", "chunked")
	}
	h.Set("Connection", "close")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_ = h.Write(&head)
	head.WriteString("\r\n")
	_ = conn.SetWriteDeadline(time.Now().Add(s.wait))
	if _, err = conn.Write([]byte(head.String())); err != nil {
		_ = conn.Close()
	}
	return s, err
}

// send sends all of it within a bounded time.
func (s *sse) send(text []byte) error {
	if s.conn == nil {
		_ = s.rc.SetWriteDeadline(time.Now().Add(s.wait))
		_, err := s.w.Write(text)
		return s.flush(err)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.wait))
	if !s.chunked {
		_, err := s.conn.Write(text)
		return err
	}
	parts := net.Buffers{fmt.Appendf(nil, "%x\r\n", len(text)), text, crlf}
	_, err := parts.WriteTo(s.conn)
	return err
}

// flush sends what was written to the server's buffer. Over HTTP/2 a deadline that is left ends a stream also while it is silent.
func (s *sse) flush(err error) error {
	if err == nil {
		err = s.rc.Flush()
	}
	_ = s.rc.SetWriteDeadline(time.Time{})
	return err
}

var (
	crlf    = []byte("\r\n")
	comment = []byte(":\n\n")
)

// end ends the stream; whole says that there is no more to come.
func (s *sse) end(whole bool) {
	if s.conn == nil {
		return
	}
	if s.chunked && whole {
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.wait))
		_, _ = s.conn.Write([]byte("0\r\n\r\n"))
	}
	_ = s.conn.Close()
}

// finish is what is left of a call once its stream is open: what is counted and logged at its end.
type finish struct {
	g                                 *Gateway
	route, method, path, name, source string
	began                             time.Time
}

func (c *call) finish() finish {
	f := finish{g: c.g, route: c.route.name, method: c.r.Method, path: strings.Clone(c.r.URL.Path), source: address(c.r), began: c.began}
	if c.who != nil {
		f.name = c.who.name
	}
	return f
}

func (f *finish) end(status int) {
	took := time.Since(f.began)
	f.g.metrics.Answered(f.route, status, took)
	if f.g.cfg.AccessLog {
		f.g.log.Info("request", "method", f.method, "path", f.path, "status", status, "took", took, "token", f.name, "client", f.source)
	}
}
