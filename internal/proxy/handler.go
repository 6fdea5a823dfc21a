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
	bad := tunnels(v)
	t, ok := targetOf(r)
	switch {
	case bad != nil:
		p.refuse(v, *bad)
	case !ok:
		p.refuse(v, refusal{status: http.StatusBadRequest, reason: "This is not a request for a path."})
	case strings.HasPrefix(t.whole, messages.EnterPath):
		p.enter(v, t)
	case p.serveCookie(v, t):
	default:
		p.servePath(v, t)
	}
}

// servePath serves a request that shows its token in its path or as a bearer, if it shows one. The path comes first: an
// application's own bearers may look like tokens.
func (p *Proxy) servePath(v *visit, t target) {
	r := v.r
	if p.cfg.PlainPaths {
		t.mode = modePlain
	}
	borne := bearerOf(r)
	switch {
	case !tokenShaped(t.token) && borne != "":
		p.serveBearer(v, t, borne)
	case t.whole == "/ready" && v.tunnel == nil: // of which a 200 would be the beginning
		p.serveReady(v)
	case !tokenShaped(t.token):
		p.serveNobody(v, t)
	case borne != "":
		rt, err := p.lookup(r, t.token)
		if nowhere(err) {
			p.serveBearer(v, t, borne)
			return
		}
		p.serveFound(v, t, rt, err)
	case t.bare && !isStatic(t.token) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && upgradeOf(r) == "":
		// Relative links on the page need the slash. Those who do not follow
		// redirects (WebSockets, POST) are served as if it were there.
		p.redirect(v, t.whole+"/"+t.query, http.StatusTemporaryRedirect)
	default:
		rt, err := p.lookup(r, t.token)
		p.serveFound(v, t, rt, err)
	}
}

func (p *Proxy) redirect(v *visit, to string, status int) {
	v.status = status
	p.endUnread(v)
	h := v.w.Header()
	setGeneral(h)
	h.Set("Location", to) // as it is: http.Redirect would fold its slashes
	h.Set("Content-Length", "0")
	v.w.WriteHeader(status)
}

// nowhere says that a token leads nowhere, or that its client has tried too many such.
func nowhere(err error) bool {
	kind := messages.KindOf(err)
	return kind == messages.NotFound || kind == messages.BadRequest || errors.Is(err, errStranger)
}

// serveFound goes on when it is known where the token leads, or why not: it waits there if it must, and passes
// the request on.
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
	if !rt.open() && !rt.addressless() {
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
	if rt.addressless() {
		p.refuse(v, refusal{status: http.StatusBadGateway, reason: noAddress, route: rt})
		return
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

// goneAt refuses who comes to a backend that has ended, or is leaving. Of a key that outlives it, who asks once more is led to the next one.
func goneAt(rt *route) refusal {
	if rt.resumable {
		return refusal{status: http.StatusServiceUnavailable, reason: endsNow, again: soon, route: rt}
	}
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
	case kind == messages.BackingOff:
		why.status, why.reason = http.StatusServiceUnavailable, resting
		if refused, ok := errors.AsType[*messages.Error](err); ok {
			why.detail, why.again = refused.LastWords, time.Duration(refused.RetryAfterMS)*time.Millisecond
		}
	case kind == messages.NoDroneAvailable:
		why.status, why.reason, why.again = http.StatusServiceUnavailable, noDrone(err), inAWhile
	case kind == messages.KeyHeldUnhealthy:
		why.status, why.reason, why.again = http.StatusServiceUnavailable, endsNow, soon
	case kind == messages.Overloaded, kind == messages.Unavailable:
		why.status, why.reason, why.again = http.StatusServiceUnavailable, unfound, soon
	default:
		why.status, why.reason = http.StatusServiceUnavailable, unfound
	}
	p.refuse(v, why)
}
