package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// mode is how a session's token is shown, and so where the backend's root is for the browser.
type mode int

const (
	// modePrefixed: the token is the first part of the path. What the backend says of its own root is put below it.
	modePrefixed mode = iota
	// modePlain: the same, but what the backend says is passed on as it is, as Plane does.
	modePlain
	// modeOrigin: a cookie or a bearer shows it. The host is the backend's, and so is every path.
	modeOrigin
)

// prefix is the path below which the browser finds the backend's root; "" where it is the root, or where nothing
// is to be changed.
func (t *target) prefix() string {
	if t.mode != modePrefixed {
		return ""
	}
	return "/" + t.token
}

// ownFields are the values of a request's field that the backend may see: none that lets anybody in.
func (o *outgoing) ownFields(name string, values []string) []string {
	switch name {
	case "Cookie":
		return withoutSessionCookies(values)
	case "Authorization":
		return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return bearerIn(v) == o.route.token })
	case "Referer":
		return slices.DeleteFunc(slices.Clone(values), o.othersLink)
	}
	return values
}

func withoutSessionCookies(lines []string) []string {
	ours := func(line string) bool { return strings.Contains(line, cookiePlain) }
	if !slices.ContainsFunc(lines, ours) {
		return lines
	}
	var left []string
	for _, line := range lines {
		var pairs []string
		for pair := range strings.SplitSeq(line, ";") {
			if name, _, _ := strings.Cut(strings.Trim(pair, " \t"), "="); !isSessionCookie(strings.Trim(name, " \t")) {
				pairs = append(pairs, pair)
			}
		}
		if line = strings.Trim(strings.Join(pairs, ";"), " \t"); line != "" {
			left = append(left, line)
		}
	}
	return left
}

// othersLink says that a URL holds a token other than the one that this request came with.
func (o *outgoing) othersLink(link string) bool {
	_, after, ok := strings.Cut(link, "://")
	if !ok {
		return false
	}
	_, path, _ := strings.Cut(after, "/")
	part := cutAny(strings.TrimPrefix(path, messages.EnterPath[1:]), "/?#")
	return tokenShaped(part) && part != o.target.token
}

// adapt changes a response's fields to where the browser finds the backend. The slices in h are not written to.
func (o *outgoing) adapt(h http.Header) {
	prefix := o.target.prefix()
	if cookies := h["Set-Cookie"]; len(cookies) > 0 {
		h["Set-Cookie"] = o.adaptCookies(cookies, prefix)
	}
	if prefix == "" {
		return
	}
	if at := h["Location"]; len(at) == 1 {
		h["Location"] = []string{o.below(prefix, at[0])}
	}
	// Both are about the whole host, where others are, too.
	delete(h, "Service-Worker-Allowed")
	delete(h, "Clear-Site-Data")
	if h["Referrer-Policy"] == nil {
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin") // the path holds the token
	}
}

// below puts a link to a path of the backend's host below the prefix. One that is there already stays, and so does one to another
// session, or to elsewhere.
func (o *outgoing) below(prefix, link string) string {
	path := link
	if _, after, ok := strings.Cut(link, "//"); ok && (strings.HasPrefix(link, "//") || strings.HasPrefix(link, "http://") || strings.HasPrefix(link, "https://")) {
		host := after
		if end := strings.IndexAny(after, "/?#"); end >= 0 {
			host = after[:end]
		}
		if !sameHost(host, o.r.Host) {
			return link
		}
		path = after[len(host):]
	} else if !strings.HasPrefix(path, "/") {
		return link
	}
	before := link[:len(link)-len(path)]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if tokenShaped(cutAny(path[1:], "/?#")) {
		return link
	}
	return before + prefix + path
}

func cutAny(s, chars string) string {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i]
	}
	return s
}

// adaptCookies puts cookies for the backend's root below the prefix, so that neighbours do not get them. Those that only the whole host
// can have (__Host-) stay as they are. The session's own cookie is not the backend's to set.
func (o *outgoing) adaptCookies(cookies []string, prefix string) []string {
	adapted := make([]string, 0, len(cookies))
	for _, c := range cookies {
		pair, attributes, _ := strings.Cut(c, ";")
		name, _, _ := strings.Cut(pair, "=")
		name = strings.Trim(name, " \t")
		if isSessionCookie(name) {
			continue
		}
		if prefix != "" && attributes != "" && !(len(name) > 7 && strings.EqualFold(name[:7], "__Host-")) {
			c = pair + cookiePaths(attributes, prefix)
		}
		adapted = append(adapted, c)
	}
	return adapted
}

// cookiePaths gives a cookie's attributes, each behind its semicolon, with the path below the prefix.
func cookiePaths(attributes, prefix string) string {
	var b strings.Builder
	for a := range strings.SplitSeq(attributes, ";") {
		name, path, _ := strings.Cut(a, "=")
		path = strings.Trim(path, " \t")
		if strings.EqualFold(strings.Trim(name, " \t"), "path") && strings.HasPrefix(path, "/") &&
			path != prefix && !strings.HasPrefix(path, prefix+"/") {
			a = " Path=" + prefix + path
		}
		b.WriteString(";" + a)
	}
	return b.String()
}
