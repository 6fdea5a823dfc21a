package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// outgoing is what a request becomes on its way to the backend.
type outgoing struct {
	r        *http.Request
	target   target
	route    *route
	from     origin
	upgrade  string   // the protocol that the client wants to change to, or ""
	length   int64    // of the body; -1: unknown, so chunked; 0: none
	trailers []string // that may follow the body
	expects  bool     // the client waits for 100 before it sends the body
}

func newOutgoing(r *http.Request, t target, rt *route, from origin) outgoing {
	o := outgoing{r: r, target: t, route: rt, from: from, length: r.ContentLength}
	if r.Body == nil || r.Body == http.NoBody {
		o.length = 0
	}
	if o.length == 0 {
		o.upgrade = upgradeOf(r)
		return o
	}
	o.expects = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	if o.length < 0 {
		for name := range r.Trailer {
			if !isVerified(name) && !isForwarded(name) && !isHop(name) && !isHead(name) {
				o.trailers = append(o.trailers, name)
			}
		}
		slices.Sort(o.trailers)
	}
	return o
}

// ambiguous says that a client's message may have stated a length beside its chunks:
// net/http believes the chunks, as it must, and hides the length. Something in front of
// the proxy may have believed that, so what follows may not be a request of the one who
// seems to send it: the connection is to be closed (RFC 9112, section 6.1).
func ambiguous(r *http.Request) bool {
	return r.ProtoMajor == 1 && len(r.TransferEncoding) > 0
}

// replayable says that sending the request again cannot do anything twice.
func (o *outgoing) replayable() bool {
	if o.length != 0 {
		return false
	}
	switch o.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// appendHead writes the request's head. Path and query are the client's, byte for
// byte. The message's length is said once, as it is known here, whatever the client
// said about it: two readers cannot take it for different ones.
func (o *outgoing) appendHead(b []byte) []byte {
	r := o.r
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, o.target.rest...)
	b = append(b, o.target.query...)
	b = append(b, " HTTP/1.1\r\n"...)
	// The Host stays the browser's: backends compare it with Origin.
	b = appendField(b, "Host", r.Host)

	listed := r.Header["Connection"]
	for name, values := range r.Header {
		if isHop(name) || isVerified(name) || isForwarded(name) || lists(listed, name) {
			continue
		}
		switch name {
		case "Content-Length", "Expect":
			continue
		case "Cookie", "Authorization", "Referer":
			values = o.ownFields(name, values)
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if lists(r.Header["Te"], "trailers") {
		b = append(b, "Te: trailers\r\n"...)
	}
	b = o.appendForwarded(b)
	b = o.appendVerified(b)
	switch {
	case o.upgrade != "":
		b = appendField(b, "Connection", "Upgrade")
		b = appendField(b, "Upgrade", o.upgrade)
	case o.length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if len(o.trailers) > 0 {
			b = appendField(b, "Trailer", strings.Join(o.trailers, ", "))
		}
	case o.length > 0 || wantsLength(r):
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, o.length, 10)
		b = append(b, "\r\n"...)
	}
	if o.expects {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, "\r\n"...)
}

// wantsLength says that an empty body is to be said to be empty.
func wantsLength(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return r.Header["Content-Length"] != nil
}

func (o *outgoing) appendForwarded(b []byte) []byte {
	b = appendField(b, "X-Forwarded-For", o.from.client)
	b = appendField(b, "X-Forwarded-Host", o.r.Host)
	if prefix := o.target.prefix(); prefix != "" && o.target.rest != o.target.whole {
		b = appendField(b, "X-Forwarded-Prefix", prefix)
	}
	return appendField(b, "X-Forwarded-Proto", o.from.proto)
}

// appendVerified says to the backend what the worker said of the token. All of it is always said, empty where
// there is nothing: what is left out, something on the way may take from elsewhere.
func (o *outgoing) appendVerified(b []byte) []byte {
	rt := o.route
	b = appendField(b, headerUsername, rt.username)
	b = appendField(b, headerUserData, rt.userData)
	b = appendField(b, headerSecret, rt.secret)
	path := o.target.whole
	if len(path) > longestPath {
		path = ""
	}
	b = appendField(b, headerPath, path)
	return appendField(b, headerBackend, rt.backend)
}

// answerFields gives the client what the backend said, and what every response carries.
func (o *outgoing) answerFields(h, said http.Header) {
	copyFields(h, said)
	o.adapt(h)
	setGeneral(h)
	h.Set(headerBackendID, o.route.backend)
}

// longestPath is the longest path that the backend is told twice, as what it is asked for and as what the browser asked
// for: many servers take 8 KiB of a request's head.
const longestPath = 2 << 10

// appendField writes one field. What net/http's server let through, of HTTP/1
// and HTTP/2, holds no end of a line; what a worker sent holds none by messages.HeaderUser and messages.HeaderJSON.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// isHop says that a field is about one connection only (RFC 9110, section 7.6.1). Te
// and Trailer are said anew, Upgrade where it is passed on.
func isHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", protocolField:
		return true
	}
	return false
}

// isHead says that a field means something in the head of a request only: where it
// goes, how it is to be read, who sends it (RFC 9110, section 6.5.1). A backend that puts
// trailers among the fields must not find one there that nobody in front of it has seen.
func isHead(name string) bool {
	switch name {
	case "Host", "Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Expect",
		"Authorization", "Cookie", "Origin":
		return true
	}
	return false
}

// lists says whether name is in one of the comma-separated lists.
func lists(fields []string, name string) bool {
	for _, f := range fields {
		for f != "" {
			var item string
			item, f, _ = strings.Cut(f, ",")
			if item, _, _ = strings.Cut(item, ";"); strings.EqualFold(strings.Trim(item, " \t"), name) {
				return true
			}
		}
	}
	return false
}

// upgradeOf gives the protocol that the client of an HTTP/1.1 request wants to
// change to, "" for none, and what a tunnel is for. Other versions of HTTP are none: what a client says
// on such a connection nobody would have looked at, x-verified-* included.
func upgradeOf(r *http.Request) string {
	if tunnel := r.Header[protocolField]; tunnel != nil {
		return tunnel[0]
	}
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || !lists(r.Header["Connection"], "upgrade") {
		return ""
	}
	offers := strings.Join(r.Header["Upgrade"], ", ")
	for offer := range strings.SplitSeq(offers, ",") {
		protocol, _, _ := strings.Cut(strings.ToLower(strings.Trim(offer, " \t")), "/")
		switch protocol {
		case "h2c", "h2", "http", "tls":
			return ""
		}
	}
	return offers
}
