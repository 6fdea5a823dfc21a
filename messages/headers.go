package messages

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf16"
)

// MaxUserData is how long auth may be as a header, in bytes, unless a worker is told otherwise: the head
// of a request must fit 8 KiB for gunicorn and aiohttp, 16 KiB for Node.js, and browsers need their part.
const MaxUserData = 4 << 10

// HeaderUser is how a user's name is sent to the backend as x-verified-username: its UTF-8, in which
// everything but ASCII, and the percent sign, stands as %XX for each byte. What reads it undoes it with decodeURIComponent (JavaScript),
// urllib.parse.unquote (Python), url.PathUnescape (Go) or rawurldecode (PHP). A name in ASCII without a percent sign is as it is.
func HeaderUser(user string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(user) {
		switch c := user[i]; {
		case c < ' ' || c >= 0x7f || c == '%':
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// CheckUserData refuses auth that is longer as a header than limit.
func CheckUserData(auth json.RawMessage, limit int) error {
	if 6*len(auth) <= limit { // what one byte becomes at most
		return nil
	}
	if n := len(HeaderJSON(auth)); n > limit {
		return badField("auth", "takes %d bytes as the header x-verified-user-data (letters that are not ASCII take 6 each), at most %d are sent: many servers take 8 KiB of headers in all. "+
			"Send less, such as an id; or, if your backends take more, raise --max-user-data of the workers", n, limit)
	}
	return nil
}

// HeaderJSON is how auth is sent to the backend as x-verified-user-data: raw without spaces and with everything but ASCII escaped, so that
// it survives as a header whatever charset a backend reads headers in; "" for
// nothing and null.
func HeaderJSON(raw json.RawMessage) string {
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
			writePair(&out, c)
		}
	}
	return out.String()
}

func writePair(out *strings.Builder, c rune) {
	high, low := utf16.EncodeRune(c)
	writeEscape(out, high)
	writeEscape(out, low)
}

func writeEscape(out *strings.Builder, c rune) {
	const hex = "0123456789abcdef"
	out.WriteString(`\u`)
	for shift := 12; shift >= 0; shift -= 4 {
		out.WriteByte(hex[c>>shift&15])
	}
}
