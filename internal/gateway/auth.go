package gateway

import (
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// cookieName is where a browser keeps the token of who has signed in to the page.
const cookieName = "jetway_token"

// identify says who asks, and refuses who may not.
func (c *call) identify() error {
	g, r := c.g, c.r
	if c.route.public && !g.cfg.PrivatePub && (g.cfg.ForwardAuth != "" || r.Header.Get("Authorization") == "") {
		c.who = everybody()
		return nil
	}
	if !c.route.public {
		// What another site's page has a browser send is not what its user asked for.
		if err := g.origins.Check(r); err != nil {
			return messages.Errorf(Forbidden, "the request comes from another site's page")
		}
	}
	switch {
	case g.cfg.ForwardAuth != "":
		if c.route.scope == "" && !c.route.public {
			c.who = everybody()
			return nil
		}
		return c.forward()
	case g.cfg.TokensFile == "":
		// The loopback is this machine's, but pages of other sites reach it by names of theirs.
		if !loopbackHost(r.Host) {
			return messages.Errorf(Forbidden, "this gateway asks for no token and serves its own machine only, as localhost or 127.0.0.1, and not as %.100q", r.Host)
		}
		c.who = everybody()
		return nil
	}
	token, fromCookie := bearer(r)
	known := (*g.tokens.Load())[hashOf(token)]
	if known == nil && c.route.scope == "" && !c.route.public {
		c.who = &who{}
		return nil
	}
	switch {
	case token == "":
		return messages.Errorf(Unauthorized, "there is no token: send Authorization: Bearer TOKEN")
	case known == nil && fromCookie:
		return messages.Errorf(Unauthorized, "the token that you signed in with is not known any more: sign in again")
	case known == nil:
		return messages.Errorf(Unauthorized, "the token is not known")
	}
	c.who = known
	return c.allowed()
}

// allowed refuses a token that may not ask for this, or asks too often.
func (c *call) allowed() error {
	if c.route.scope != "" && !slices.Contains(c.who.scopes, c.route.scope) {
		return messages.Errorf(Forbidden, "the token %q has not the scope %s", c.who.name, c.route.scope)
	}
	if c.route.shared && c.who.namespaces != nil {
		return messages.Errorf(Forbidden, "the token %q is for some namespaces, and this is everybody's", c.who.name)
	}
	if c.who.limit == nil {
		return nil
	}
	reserved := c.who.limit.Reserve()
	wait := reserved.Delay()
	if wait == 0 {
		return nil
	}
	reserved.Cancel()
	after := time.Duration(math.Ceil(wait.Seconds())) * time.Second
	return laterError{messages.Errorf(RateLimited, "the token %q may make %g requests a second", c.who.name, float64(c.who.limit.Limit())), after}
}

// bearer gives the token of a request, or that of the cookie.
func bearer(r *http.Request) (token string, fromCookie bool) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token), false
	}
	if cookie, err := r.Cookie(cookieName); err == nil {
		return cookie.Value, true
	}
	return "", false
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// address is that that a request came from, without its port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
