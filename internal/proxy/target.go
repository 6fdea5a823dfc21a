package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// tokenChars is the length of 32 random bytes in base64url without padding.
const tokenChars = 43

// target is a request's path, taken apart without decoding anything.
type target struct {
	// token is the first segment; "" when there is none.
	token string
	// whole is the path as the client sent it, rest what the backend gets to see
	// of it; both keep every escape and begin with a slash.
	whole, rest string
	// bare says that nothing follows the token, not even a slash.
	bare bool
}

// targetOf reads the path of r, or says that it has none: for CONNECT and "*".
func targetOf(r *http.Request) (target, bool) {
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") {
		// A client may send a whole URL; its host is in r.Host then.
		scheme, after, ok := strings.Cut(path, "://")
		if !ok || r.Method == http.MethodConnect || strings.ContainsAny(scheme, "/?") {
			return target{}, false
		}
		slash := strings.IndexAny(after, "/?")
		if slash < 0 {
			return target{whole: "/", rest: "/"}, true
		}
		if path = after[slash:]; path[0] == '?' {
			path = "/" + path
		}
	}
	path, _, _ = strings.Cut(path, "?")
	return splitPath(path), true
}

// splitPath takes apart a path that begins with a slash.
func splitPath(path string) target {
	t := target{whole: path, rest: path}
	token, rest, slashed := strings.Cut(path[1:], "/")
	t.token, t.bare = token, !slashed && token != ""
	// A static token stays in the path: it lives as long as its backend, which
	// may build links with it.
	if !isStatic(token) {
		t.rest = "/" + rest
	}
	return t
}

func isStatic(token string) bool { return strings.HasPrefix(token, messages.StaticTokenPrefix) }

// tokenShaped says whether a worker could ever have given this token. What is
// not so shaped leads nowhere; no worker need be asked.
func tokenShaped(token string) bool {
	token = strings.TrimPrefix(token, messages.StaticTokenPrefix)
	if len(token) != tokenChars {
		return false
	}
	for i := range len(token) {
		if !isBase64URL(token[i]) {
			return false
		}
	}
	return true
}

func isBase64URL(c byte) bool {
	return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '-' || c == '_'
}

// backendURL is the URL whose request line holds path and query exactly as they
// are. Paths that begin with two slashes and also hold bytes that no URI may
// hold get those bytes escaped: net/http offers no way to send them as they are.
func backendURL(address, path, query string) *url.URL {
	u := &url.URL{Scheme: "http", Host: address, RawQuery: query}
	if setPath(u, path); u.EscapedPath() == path {
		return u
	}
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return u
	}
	setPath(u, escapeIllegal(path))
	return u
}

func setPath(u *url.URL, raw string) {
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		decoded = "" // EscapedPath differs then
	}
	u.Path, u.RawPath = decoded, raw
}

// escapeIllegal escapes what must not stand in a URI's path, and nothing else.
func escapeIllegal(path string) string {
	const legal = "-._~!$&'()*+,;=:@/%[]"
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(path) {
		if c := path[i]; isBase64URL(c) || strings.IndexByte(legal, c) >= 0 {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}
