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

const bearer = "Bearer "

// shown is a token that a request carries in a field, not in its path.
type shown struct {
	token  string
	cookie string // the name of the cookie that holds it; "": it is a bearer's
}

// shownBy gives the token that the request's fields carry, if they do. A bearer that does not look like a token is the
// application's own.
func shownBy(r *http.Request) (shown, bool) {
	var plain string
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !isSessionCookie(name) || !tokenShaped(value):
			case name == cookieSecure:
				return shown{value, name}, true
			case plain == "":
				plain = value
			}
		}
	}
	if plain != "" {
		return shown{plain, cookiePlain}, true
	}
	for _, value := range r.Header["Authorization"] {
		if token, ok := bearerOf(value); ok && tokenShaped(token) {
			return shown{token, ""}, true
		}
	}
	return shown{}, false
}

func bearerOf(value string) (string, bool) {
	if len(value) < len(bearer) || !strings.EqualFold(value[:len(bearer)], bearer) {
		return "", false
	}
	return strings.Trim(value[len(bearer):], " \t"), true
}

// serveShown serves a request whose fields carry a token: its path, all of it, is the backend's. It says false when the
// fields count for nothing here, so that the path is to be looked at.
func (p *Proxy) serveShown(v *visit, t target, by shown) bool {
	rt, err := p.lookup(v.r, by.token)
	switch kind := messages.KindOf(err); {
	case err != nil:
		if tokenShaped(t.token) && (kind == messages.NotFound || kind == messages.BadRequest) {
			return false // a link that is good, beside what is left of a session that has ended
		}
	case by.cookie != "" && by.cookie != rt.cookie():
		// Sessions that share a host could set each other's.
		return false
	case by.cookie != "" && foreign(v.r):
		p.refuse(v, refusal{
			status: http.StatusForbidden,
			reason: "Another site's page has sent this. The cookie of a session counts for the session's own pages only: send the token as Authorization: Bearer instead.",
			route:  rt,
		})
		return true
	}
	t.token, t.rest, t.bare, t.mode = by.token, t.whole, false, modeOrigin
	v.origin = true
	p.serveFound(v, t, rt, err)
	return true
}

// foreign says that a page of another origin has caused the request, other than by leading the browser here. Neighbours below
// one cluster are of one site, so the cookie's SameSite does not keep them from it.
func foreign(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return false
	case "":
		origin := r.Header.Get("Origin")
		_, host, _ := strings.Cut(origin, "://")
		return origin != "" && origin != "null" && !sameHost(host, r.Host)
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || (r.Method != http.MethodGet && r.Method != http.MethodHead)
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
	}
	v.backend = rt.backend
	h := v.w.Header()
	h.Add("Set-Cookie", p.sessionCookie(rt, v.r.TLS != nil))
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

func (p *Proxy) sessionCookie(rt *route, overTLS bool) string {
	c := rt.cookie() + "=" + rt.token + "; Path=/; HttpOnly"
	if rt.secure || overTLS || p.cfg.Embedded {
		c += "; Secure"
	}
	if p.cfg.Embedded {
		// In a frame of another site only such a cookie is kept, for that site alone.
		return c + "; SameSite=None; Partitioned"
	}
	return c + "; SameSite=Lax"
}

// serveNobody answers who shows no token at all.
func (p *Proxy) serveNobody(v *visit, t target) {
	r := v.r
	// Browsers ask without cookies and tokens whether they may send them to another origin.
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		v.status = http.StatusNoContent
		setGeneral(v.w.Header())
		v.w.WriteHeader(v.status)
		return
	}
	// A frame in another page is not led away: a session may have been meant to be in it.
	dest := r.Header.Get("Sec-Fetch-Dest")
	if t.whole == "/" && p.cfg.RootRedirect != "" && (dest == "" || dest == "document") {
		p.redirect(v, p.cfg.RootRedirect, http.StatusMovedPermanently)
		return
	}
	v.w.Header().Set("Www-Authenticate", "Bearer")
	p.refuse(v, refusal{
		status: http.StatusUnauthorized,
		reason: "This request has no link to a session, nor the cookie that a link leaves. Open the session's link again. (If it was just opened: the browser does not keep cookies here. Within another site's page that takes a proxy with --embedded.)",
	})
}
