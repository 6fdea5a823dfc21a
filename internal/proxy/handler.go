package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/jetway-project/jetway/messages"
)

// serve answers one request.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	if !p.gate.enter() {
		w.Header().Set("Connection", "close")
		p.refuse(w, r, stopping)
		return
	}
	defer p.gate.leave()

	if ambiguous(r) {
		w.Header().Set("Connection", "close")
	}
	t, ok := targetOf(r)
	switch {
	case !ok:
		p.refuse(w, r, refusal{status: http.StatusBadRequest, reason: "This is not a request for a path."})
	case t.whole == "/ready":
		p.serveReady(w, r)
	case t.token == "":
		p.serveRoot(w, r, t)
	case !tokenShaped(t.token):
		p.refuse(w, r, gone)
	case t.bare && !isStatic(t.token) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && upgradeOf(r) == "":
		// Relative links on the page need the slash. Those who do not follow
		// redirects (WebSockets, POST) are served as if it were there.
		setGeneral(w.Header())
		http.Redirect(w, r, t.whole+"/"+t.query, http.StatusTemporaryRedirect)
	default:
		p.serveToken(w, r, t)
	}
}

func (p *Proxy) serveRoot(w http.ResponseWriter, r *http.Request, t target) {
	if t.whole != "/" || p.cfg.RootRedirect == "" {
		p.refuse(w, r, refusal{status: http.StatusBadRequest, reason: "There is nothing here: the link to a session has its token in the path."})
		return
	}
	setGeneral(w.Header())
	http.Redirect(w, r, p.cfg.RootRedirect, http.StatusMovedPermanently)
}

// serveToken finds out where the token leads, waits there if it must, and passes
// the request on.
func (p *Proxy) serveToken(w http.ResponseWriter, r *http.Request, t target) {
	rt, err := p.lookup(r, t.token)
	switch {
	case err != nil:
		p.refuseUnfound(w, r, nil, err)
		return
	case rt.ended():
		p.refuse(w, r, goneAt(rt))
		return
	case !sameHost(r.Host, rt.host):
		p.refuse(w, r, refusal{
			status: http.StatusForbidden,
			reason: fmt.Sprintf("This session is reached through %s only, not through %.100q.", rt.host, r.Host),
			route:  rt,
		})
		return
	}
	if !rt.open() {
		held := rt
		if rt, err = p.hold(r.Context(), held); err != nil {
			p.refuseUnfound(w, r, held, err)
			return
		}
		if rt.status.Leaving() {
			p.refuse(w, r, goneAt(rt))
			return
		}
	}
	p.forward(w, r, rt, t)
}

func goneAt(rt *route) refusal {
	at := gone
	at.route = rt
	return at
}

// refuseUnfound answers where find or hold failed.
func (p *Proxy) refuseUnfound(w http.ResponseWriter, r *http.Request, rt *route, err error) {
	why := refusal{route: rt, err: err}
	switch kind := messages.KindOf(err); {
	case r.Context().Err() != nil:
		p.abort(r, err)
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
	p.refuse(w, r, why)
}
