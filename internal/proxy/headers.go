package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
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

// isVerified says that only the proxy may set a header of this name. Underscores
// count as dashes: to many a backend (CGI, WSGI, PHP) they are the same.
func isVerified(name string) bool {
	const prefix = "x-verified-"
	return len(name) >= len(prefix) && strings.EqualFold(strings.ReplaceAll(name[:len(prefix)], "_", "-"), prefix)
}

func dropVerified(h http.Header) {
	for name := range h {
		if isVerified(name) {
			delete(h, name)
		}
	}
}

// setVerified says to the backend what the worker said of the token.
func setVerified(h http.Header, r *route, path string) {
	dropVerified(h)
	if r.user != "" {
		h.Set(headerUsername, headerText(r.user))
	}
	if r.userData != "" {
		h.Set(headerUserData, r.userData)
	}
	if r.secret != "" {
		h.Set(headerSecret, r.secret)
	}
	h.Set(headerPath, path)
	h.Set(headerBackend, r.backend)
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

// clientBody passes on a request's body and, after it, the trailers that were
// announced. It tells the passage when the client, not the backend, broke off.
type clientBody struct {
	io.ReadCloser
	from    *http.Request
	trailer http.Header // of the request to the backend
	passage *passage
}

func (b *clientBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		for name := range b.trailer {
			b.trailer[name] = b.from.Trailer[name]
		}
	default:
		failed := err // err itself would be moved to the heap on every read
		b.passage.bodyErr.Store(&failed)
	}
	return n, err
}
