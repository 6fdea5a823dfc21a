package proxy

import (
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// visit is one request to the proxy, from its head's arrival to its end: what is counted
// and logged of it.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	start time.Time
	begun *begun // by a loop; nil: nothing was, or it has been taken over
	// tunnel is what a WebSocket over HTTP/2 will go on by; nil: it is no such request.
	tunnel *tunnel
	// held is for how long it waited for its backend.
	held time.Duration

	status  int    // 0: none was sent
	refused string // the id on the page, if the proxy refused
	backend string // its id, where known
	route   *route // that it took, where known
	// received and sent are bytes of bodies, and what passed once it was upgraded.
	received, sent int64
	forwarded      bool // the backend answered
	added          time.Duration
	whole          bool // no token is in its path
	uploading      bool // the body is being passed on, or was
	handedOn       bool // it goes on as an upgraded connection, which ends it
}

// visitEnded counts and logs a visit.
func (p *Proxy) visitEnded(v *visit) {
	switch {
	case v.status == 0:
		p.metrics.Abandoned()
	case !v.forwarded:
		p.metrics.Answered(v.status)
	}
	if p.cfg.AccessLog {
		p.logVisit(v, "request", v.line(p))
	}
}

// line is what the access log says of the request itself. The token, which lets anybody
// in, and the query, which may do the same at the backend, are left out.
func (v *visit) line(p *Proxy) []slog.Attr {
	r := v.r
	path := "/"
	if t, ok := targetOf(r); ok {
		switch path = t.whole; {
		case v.whole:
		case tokenShaped(t.token):
			path = "/" + strings.TrimPrefix(path[1+len(t.token):], "/")
		case t.token != "" && t.whole != "/ready":
			path = "/…" // perhaps most of a token
		}
	}
	return []slog.Attr{
		slog.String("method", r.Method), slog.String("host", r.Host), slog.String("path", path),
		slog.String("proto", r.Proto), slog.String("client", p.originOf(r).client), slog.String("agent", r.UserAgent()),
	}
}

func (p *Proxy) logVisit(v *visit, message string, line []slog.Attr) {
	attrs := append(line, slog.Int("status", v.status), slog.String("backend_id", v.backend))
	if v.route != nil {
		attrs = append(attrs, slog.String("user", v.route.user), slog.String("key", v.route.key.Name), slog.String("namespace", v.route.key.Namespace))
	}
	attrs = append(attrs, slog.Int64("received", v.received), slog.Int64("sent", v.sent), slog.Duration("took", time.Since(v.start)))
	if v.held > 0 {
		attrs = append(attrs, slog.Duration("held", v.held))
	}
	if v.refused != "" {
		attrs = append(attrs, slog.String("id", v.refused))
	}
	p.log.LogAttrs(p.serving, slog.LevelInfo, message, attrs...)
}
