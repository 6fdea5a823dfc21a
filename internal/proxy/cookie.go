package proxy

import (
	"net/http"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// The cookie that holds a session's token, in origin mode. Of https, no neighbour below the same cluster can set it: the
// browser takes a name that begins so only from the host itself.
const (
	cookieSecure = "__Host-jetway"
	cookiePlain  = "jetway" // where the cluster speaks http, as on localhost
)

// isSessionCookie says that a cookie is the proxy's own.
func isSessionCookie(name string) bool { return name == cookieSecure || name == cookiePlain }

// cookieOf gives the cookie of the proxy's own that a request carries: its name and the token in it, "" without one.
func cookieOf(r *http.Request) (name, token string) {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			n, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !isSessionCookie(n) || !tokenShaped(value):
			case n == cookieSecure:
				return n, value
			case token == "":
				name, token = n, value
			}
		}
	}
	return name, token
}

const bearer = "Bearer "

// bearerIn gives the token that a value of Authorization holds, "" where it is something else, as the application's own.
func bearerIn(value string) string {
	if len(value) < len(bearer) || !strings.EqualFold(value[:len(bearer)], bearer) {
		return ""
	}
	if token := strings.Trim(value[len(bearer):], " \t"); tokenShaped(token) {
		return token
	}
	return ""
}

// bearerOf gives the token that a request's Authorization holds.
func bearerOf(r *http.Request) string {
	for _, value := range r.Header["Authorization"] {
		if token := bearerIn(value); token != "" {
			return token
		}
	}
	return ""
}

// serveCookie serves a request that carries a session's cookie: its path, all of it, is the backend's. It says false when
// the cookie counts for nothing here, or there is none, so that the rest of the request says where it leads.
func (p *Proxy) serveCookie(v *visit, t target) bool {
	name, token := cookieOf(v.r)
	if token == "" {
		return false
	}
	rt, err := p.lookup(v.r, token)
	switch {
	case err != nil:
		if tokenShaped(t.token) && nowhere(err) {
			return false // a link that may be good, beside what is left of a session that has ended
		}
	case name != rt.cookie() || !sameHost(v.r.Host, rt.host):
		return false // somebody else who has a part of this host's name may have set it
	case foreign(v.r):
		p.refuseForeign(v, rt)
		return true
	}
	p.serveWhole(v, t, token, rt, err)
	return true
}

func (p *Proxy) serveBearer(v *visit, t target, token string) {
	rt, err := p.lookup(v.r, token)
	p.serveWhole(v, t, token, rt, err)
}

// serveWhole serves a request whose token is not in its path.
func (p *Proxy) serveWhole(v *visit, t target, token string, rt *route, err error) {
	t.token, t.rest, t.mode = token, t.whole, modeOrigin
	v.whole = true
	p.serveFound(v, t, rt, err)
}

// foreign says that a page of another origin has caused the request, other than by leading the browser here. Neighbours below
// one cluster are of one site, so the cookie's SameSite does not keep them from it.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		// WebSockets of many browsers, and all of browsers that are old or came by http.
		origin := r.Header.Get("Origin")
		_, host, _ := strings.Cut(origin, "://")
		switch origin {
		case "":
			return false
		case "null": // a form of a page that sends no Referer, or else a page in a sandbox
			return r.Method != http.MethodPost
		}
		return !sameHost(host, r.Host)
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || (r.Method != http.MethodGet && r.Method != http.MethodHead)
}

func (p *Proxy) refuseForeign(v *visit, rt *route) {
	p.refuse(v, refusal{
		status: http.StatusForbidden,
		reason: "A page of another origin has sent this. The cookie of a session counts for the session's own pages only: send the token as Authorization: Bearer instead.",
		route:  rt,
	})
}

// enter hands the token of a link to a cookie and leads to the session: to its root, or to what follows the token.
func (p *Proxy) enter(v *visit, t target) {
	token, rest, _ := strings.Cut(t.whole[len(messages.EnterPath):], "/")
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		v.w.Header().Set("Allow", "GET, HEAD")
		p.refuse(v, refusal{status: http.StatusMethodNotAllowed, reason: "A link to a session is opened with GET. Programs send its token as Authorization: Bearer."})
		return
	}
	if !tokenShaped(token) {
		p.refuse(v, gone)
		return
	}
	rt, err := p.lookup(v.r, token)
	switch {
	case err != nil:
		p.refuseUnfound(v, nil, err)
		return
	case rt.ended() || p.revoked(rt):
		p.refuse(v, goneAt(rt))
		return
	case !sameHost(v.r.Host, rt.host):
		p.refuseHost(v, rt)
		return
	case rt.cookie() == "":
		p.refuse(v, refusal{status: http.StatusForbidden, reason: "This session has no host of its own: its link has the token as the first part of the path.", route: rt})
		return
	case foreign(v.r):
		p.refuseForeign(v, rt) // a neighbour's page could make the visitor somebody else
		return
	}
	v.route, v.backend = rt, rt.backend
	h := v.w.Header()
	h.Add("Set-Cookie", p.sessionCookie(rt, p.originOf(v.r).proto == "https"))
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set(headerBackendID, rt.backend)
	// A path that began with two slashes, which browsers take backslashes for, would be another host.
	rest = strings.TrimLeft(strings.ReplaceAll(rest, `\`, "%5C"), "/")
	p.redirect(v, "/"+rest+t.query, http.StatusSeeOther)
}

// cookie is the name of the cookie that may hold the route's token, "" where none may: where the session shares its host.
func (r *route) cookie() string {
	switch {
	case !r.own:
		return ""
	case r.secure:
		return cookieSecure
	}
	return cookiePlain
}

func (p *Proxy) sessionCookie(rt *route, https bool) string {
	c := rt.cookie() + "=" + rt.token + "; Path=/; HttpOnly"
	if rt.secure || https || p.cfg.Embedded {
		c += "; Secure"
	}
	if p.cfg.Embedded {
		// In a frame of another site only such a cookie is kept, for that site alone.
		return c + "; SameSite=None; Partitioned"
	}
	return c + "; SameSite=Lax"
}

// serveNobody answers who shows no token.
func (p *Proxy) serveNobody(v *visit, t target) {
	r := v.r
	// A frame in another page is not led away: a session may have been meant to be in it.
	dest := r.Header.Get("Sec-Fetch-Dest")
	if t.whole == "/" && p.cfg.RootRedirect != "" && !preflight(r) && (dest == "" || dest == "document") {
		p.redirect(v, p.cfg.RootRedirect, http.StatusFound) // not for good: this may be a session's host
		return
	}
	v.w.Header().Set("Www-Authenticate", "Bearer")
	p.refuse(v, refusal{
		status: http.StatusUnauthorized,
		reason: "This request has no link to a session, nor the cookie that a link leaves. Open the session's link again. (If it was just opened: the browser does not keep cookies here. Within another site's page that takes a proxy with --embedded.)",
	})
}
