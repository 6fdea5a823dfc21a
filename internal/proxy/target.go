package proxy

import (
	"net/http"
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
	// query is what follows, with its question mark; "" without one.
	query string
	mode  mode
	// bare says that nothing follows the token, not even a slash.
	bare bool
}

// targetOf reads the path of r, or says that it has none that can be passed on: for
// CONNECT and "*", and for what would break a request line, as HTTP/2 lets it.
func targetOf(r *http.Request) (target, bool) {
	path := r.RequestURI
	if !fitsLine(path) || !fitsLine(r.Method) || r.Method == http.MethodConnect {
		return target{}, false
	}
	if !strings.HasPrefix(path, "/") {
		// A client may send a whole URL; its host is in r.Host then.
		scheme, after, ok := strings.Cut(path, "://")
		if !ok || strings.ContainsAny(scheme, "/?") {
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
	mark := strings.IndexByte(path, '?')
	if mark < 0 {
		return splitPath(path), true
	}
	t := splitPath(path[:mark])
	t.query = path[mark:]
	return t, true
}

// fitsLine says that s has no space or control character.
func fitsLine(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
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
