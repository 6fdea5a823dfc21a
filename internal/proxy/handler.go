package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// serve answers one request.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, start: time.Now()}
	if !p.gate.enter() {
		w.Header().Set("Connection", "close")
		p.refuse(v, stopping)
		p.visitEnded(v)
		return
	}
	defer func() {
		if !v.handedOn {
			p.visitEnded(v)
		}
		p.gate.leave()
	}()

	if ambiguous(r) {
		w.Header().Set("Connection", "close")
	}
	t, ok := targetOf(r)
	switch {
	case !ok:
		p.refuse(v, refusal{status: http.StatusBadRequest, reason: "This is not a request for a path."})
	case strings.HasPrefix(t.whole, messages.EnterPath):
		p.enter(v, t)
	default:
		if by, ok := shownBy(r); ok && p.serveShown(v, t, by) {
			return
		}
		p.servePath(v, t)
	}
}

// servePath serves a request that shows its token in its path, if it shows one.
func (p *Proxy) servePath(v *visit, t target) {
	r := v.r
	if p.cfg.PlainPaths {
		t.mode = modePlain
	}
	switch {
	case t.whole == "/ready":
		p.serveReady(v)
	case !tokenShaped(t.token):
		p.serveNobody(v, t)
	case t.bare && !isStatic(t.token) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && upgradeOf(r) == "":
		// Relative links on the page need the slash. Those who do not follow
		// redirects (WebSockets, POST) are served as if it were there.
		p.redirect(v, t.whole+"/"+t.query, http.StatusTemporaryRedirect)
	default:
		p.serveToken(v, t)
	}
}

func (p *Proxy) redirect(v *visit, to string, status int) {
	v.status = status
	setGeneral(v.w.Header())
	http.Redirect(v.w, v.r, to, status)
}

// serveToken finds out where the token leads, waits there if it must, and passes
// the request on.
func (p *Proxy) serveToken(v *visit, t target) {
	rt, err := p.lookup(v.r, t.token)
	p.serveFound(v, t, rt, err)
}

// serveFound goes on when it is known where the token leads, or why not.
func (p *Proxy) serveFound(v *visit, t target, rt *route, err error) {
	r := v.r
	switch {
	case err != nil:
		p.refuseUnfound(v, nil, err)
		return
	case rt.ended():
		p.refuse(v, goneAt(rt))
		return
	case !sameHost(r.Host, rt.host):
		p.refuseHost(v, rt)
		return
	}
	if !rt.open() {
		held, since := rt, time.Now()
		rt, err = p.hold(r.Context(), held)
		v.held = time.Since(since)
		if err != nil {
			p.refuseUnfound(v, held, err)
			return
		}
		if rt.status.Leaving() {
			p.refuse(v, goneAt(rt))
			return
		}
	}
	p.forward(v, rt, t)
}

func (p *Proxy) refuseHost(v *visit, rt *route) {
	p.refuse(v, refusal{
		status: http.StatusForbidden,
		reason: fmt.Sprintf("This session is reached through %s only, not through %.100q.", rt.host, v.r.Host),
		route:  rt,
	})
}

func goneAt(rt *route) refusal {
	at := gone
	at.route = rt
	return at
}

// refuseUnfound answers where find or hold failed.
func (p *Proxy) refuseUnfound(v *visit, rt *route, err error) {
	why := refusal{route: rt, err: err}
	switch kind := messages.KindOf(err); {
	case v.r.Context().Err() != nil:
		p.abort(v.r, err)
	case errors.Is(err, errStranger):
		why.status, why.reason = http.StatusTooManyRequests, "Too many links from your address lead nowhere. Try again in a moment."
	case errors.Is(err, errCrowded):
		why.status, why.reason = http.StatusServiceUnavailable, "Too many sessions are starting. Try again in a moment."
	case errors.Is(err, errNotReady):
		why.status, why.reason = http.StatusGatewayTimeout, "The session is still starting. Try again in a moment."
	case kind == messages.NotFound, kind == messages.BadRequest:
		why.status, why.reason = gone.status, gone.reason
	default:
		why.status, why.reason = http.StatusServiceUnavailable, "Cannot find out where this link leads just now. Try again in a moment."
	}
	p.refuse(v, why)
}
