package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
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

// startsWith compares without regard to letter case, in which underscores are
// dashes: to many a backend (CGI, WSGI, PHP) they are the same. prefix is in small letters.
func startsWith(name, prefix string) bool {
	if len(name) < len(prefix) || name[0]|0x20 != prefix[0] {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
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

// asciiJSON is raw without spaces and with everything but ASCII escaped, so that
// it survives as a header whatever charset a backend reads headers in; "" for
// nothing and null.
func asciiJSON(raw json.RawMessage) string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || compact.String() == "null" {
		return ""
	}
	var out strings.Builder
	out.Grow(compact.Len())
	for _, c := range compact.String() { // only within strings is anything not ASCII
		switch {
		case c < 0x7f:
			out.WriteByte(byte(c))
		case c <= 0xffff:
			writeEscape(&out, c)
		default:
			high, low := utf16.EncodeRune(c)
			writeEscape(&out, high)
			writeEscape(&out, low)
		}
	}
	return out.String()
}

func writeEscape(out *strings.Builder, c rune) {
	const hex = "0123456789abcdef"
	out.WriteString(`\u`)
	for shift := 12; shift >= 0; shift -= 4 {
		out.WriteByte(hex[c>>shift&15])
	}
}

// headerText makes a user's name fit for a header: what cannot stand in one
// becomes a replacement character.
func headerText(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return utf8.RuneError
		}
		return c
	}, s)
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
