package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// serve answers one request.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, start: time.Now(), begun: takeBegun(r)}
	if v.begun != nil {
		v.start = v.begun.start
	} else if !p.gate.enter() {
		w.Header().Set("Connection", "close")
		p.refuse(v, stopping)
		p.visitEnded(v)
		return
	}
	defer func() {
		if v.begun != nil {
			v.begun.close(p)
		}
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
	case t.whole == "/ready":
		p.serveReady(v)
	case t.token == "":
		p.serveRoot(v, t)
	case !tokenShaped(t.token):
		p.refuse(v, gone)
	case t.bare && !isStatic(t.token) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && upgradeOf(r) == "":
		// Relative links on the page need the slash. Those who do not follow
		// redirects (WebSockets, POST) are served as if it were there.
		p.redirect(v, t.whole+"/"+t.query, http.StatusTemporaryRedirect)
	default:
		p.serveToken(v, t)
	}
}

func (p *Proxy) serveRoot(v *visit, t target) {
	if t.whole != "/" || p.cfg.RootRedirect == "" {
		p.refuse(v, refusal{status: http.StatusBadRequest, reason: "There is nothing here: the link to a session has its token in the path."})
		return
	}
	p.redirect(v, p.cfg.RootRedirect, http.StatusMovedPermanently)
}

func (p *Proxy) redirect(v *visit, to string, status int) {
	v.status = status
	p.endUnread(v)
	setGeneral(v.w.Header())
	http.Redirect(v.w, v.r, to, status)
}

// serveToken finds out where the token leads, waits there if it must, and passes
// the request on.
func (p *Proxy) serveToken(v *visit, t target) {
	r := v.r
	rt, err := p.lookup(r, t.token)
	switch {
	case err != nil:
		p.refuseUnfound(v, nil, err)
		return
	case rt.ended():
		p.refuse(v, goneAt(rt))
		return
	case !sameHost(r.Host, rt.host):
		p.refuse(v, refusal{
			status: http.StatusForbidden,
			reason: fmt.Sprintf("This session is reached through %s only, not through %.100q.", rt.host, r.Host),
			route:  rt,
		})
		return
	}
	if !rt.open() {
		held, since := rt, time.Now()
		rt, err = p.hold(r, held)
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
	case errors.Is(err, errHurry):
		why.status, why.reason = http.StatusServiceUnavailable, "Too many links at once come from your address. Try again in a moment."
	case errors.Is(err, errCrowded):
		why.status, why.reason = http.StatusServiceUnavailable, "Too many sessions are starting. Try again in a moment."
	case errors.Is(err, errNotYet):
		why.status, why.reason = http.StatusServiceUnavailable, "The session is still starting. Try again in a moment."
	case errors.Is(err, errNotReady):
		why.status, why.reason = http.StatusGatewayTimeout, "The session is still starting. Try again in a moment."
	case kind == messages.NotFound, kind == messages.BadRequest:
		why.status, why.reason = gone.status, gone.reason
	default:
		why.status, why.reason = http.StatusServiceUnavailable, unfound
	}
	p.refuse(v, why)
}
