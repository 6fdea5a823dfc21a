package proxy

import (
	"net/http"
)

// Headers by which a backend knows what a worker vouches for.
const (
	headerUsername = "X-Verified-Username"
	headerUserData = "X-Verified-User-Data"
	headerPath     = "X-Verified-Path"
	headerBackend  = "X-Verified-Backend"
	headerSecret   = "X-Verified-Secret"
)

// Headers that every response carries.
const (
	headerBackendID = "X-Jetway-Backend-Id"
	serverName      = "Jetway"
)

// isVerified says that only the proxy may set a header of this name.
func isVerified(name string) bool {
	return startsWith(name, "x-verified-")
}

// startsWith compares without regard to letter case, in which all that is neither letter nor digit
// is a dash: to many a backend (CGI, WSGI, PHP) they are the same. prefix is in small letters.
func startsWith(name, prefix string) bool {
	if len(name) < len(prefix) || name[0]|0x20 != prefix[0] {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c = '-'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// isForwarded says that a field tells of the way of the request up to here, which
// only the proxy can vouch for.
func isForwarded(name string) bool {
	const prefix = "x-forwarded-"
	return name == "Forwarded" || startsWith(name, prefix)
}

// setGeneral sets what every response carries. As Plane does: a backend that says
// anything about cross-origin requests is left to say all of it.
func setGeneral(h http.Header) {
	const origin, methods, headers = "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"
	if h[origin] == nil && h[methods] == nil && h[headers] == nil {
		h.Set(origin, "*")
		h.Set(methods, "*")
		h.Set(headers, "*, Authorization") // * does not cover Authorization
	}
	h.Set("Server", serverName)
}
