package proxy

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// A message is plain when it is as most are: a GET or HEAD for a path, in HTTP/1.1, whose head came at once and has
// nothing about the connection in it, and a final response of a known and small length. Loops carry those (errand_linux.go). All
// others are net/http's to read (handed.go), so nothing is read here that could be taken for something else: where it
// is not certain, it is not plain.

const (
	// longestPlain is the longest head of a request that is plain.
	longestPlain = 8 << 10
	// mostPlain is the longest body of a response that is: longer ones have a goroutine and large buffers.
	mostPlain = largeFrom
)

// fields are those of one head. They are read into the same place one head after the other.
type fields struct {
	header http.Header
	slab   []string
}

// read reads the fields of a head, up to its empty line, and gives what follows that.
func (f *fields) read(head string) (rest string, ok bool) {
	clear(f.header)
	f.slab = f.slab[:0]
	for {
		var line string
		if line, head, ok = cutLine(head); !ok || line == "" {
			return head, ok
		}
		name, value, ok := cutField(line)
		if !ok {
			return "", false
		}
		if old := f.header[name]; old != nil {
			f.header[name] = append(old, value)
			continue
		}
		f.slab = append(f.slab, value)
		f.header[name] = f.slab[len(f.slab)-1 : len(f.slab) : len(f.slab)]
	}
}

// cutLine cuts off a line, which ends with CR LF and has neither within.
func cutLine(s string) (line, rest string, ok bool) {
	end := strings.IndexByte(s, '\n')
	if end < 1 || s[end-1] != '\r' {
		return "", "", false
	}
	line = s[:end-1]
	return line, s[end+1:], strings.IndexByte(line, '\r') < 0
}

// cutField takes a line apart: a name of letters, digits and dashes with the colon right after it, and a value without control
// characters.
func cutField(line string) (name, value string, ok bool) {
	colon := strings.IndexByte(line, ':')
	if colon < 1 {
		return "", "", false
	}
	for i := range colon {
		if c := line[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			return "", "", false
		}
	}
	for i := colon + 1; i < len(line); i++ {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", false
		}
	}
	return textproto.CanonicalMIMEHeaderKey(line[:colon]), strings.Trim(line[colon+1:], " \t"), true
}

// oddFields are those by which a message is not plain, beside others of Connection than keep-alive.
var oddFields = []string{
	"Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Proxy-Connection", "Http2-Settings",
}

func (f *fields) odd() bool {
	for _, name := range oddFields {
		if f.header[name] != nil {
			return true
		}
	}
	connection := f.header["Connection"]
	return len(connection) > 1 || len(connection) == 1 && !strings.EqualFold(connection[0], "keep-alive")
}

// readPlain reads a request of which head is all, into r, whose fields are f's then. It says whether it is plain.
func (f *fields) readPlain(head string, r *http.Request) bool {
	line, rest, ok := cutLine(head)
	if !ok || len(head) > longestPlain {
		return false
	}
	method, after, _ := strings.Cut(line, " ")
	uri, version, _ := strings.Cut(after, " ")
	if method != http.MethodGet && method != http.MethodHead || version != "HTTP/1.1" || !plainURI(uri) {
		return false
	}
	rest, ok = f.read(rest)
	host := f.header["Host"]
	if !ok || rest != "" || len(host) != 1 || host[0] == "" || f.header["Content-Length"] != nil || f.odd() {
		return false
	}
	delete(f.header, "Host")
	r.Method, r.RequestURI, r.Host = method, uri, host[0]
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header = f.header
	return true
}

// plainURI says that it is a path, perhaps with a query, all of visible ASCII. What follows a % in it is the backend's to judge.
func plainURI(uri string) bool {
	return strings.HasPrefix(uri, "/") && fitsLine(uri) && strings.IndexFunc(uri, func(c rune) bool { return c > 0x7f || c == '#' }) < 0
}

// plainAnswer is a response that is plain.
type plainAnswer struct {
	status int
	line   string // its first
	length int    // of its body
}

// readAnswer reads a response to method, of which head is all but the body. Its fields are f's then. It says whether it is plain.
func (f *fields) readAnswer(head, method string) (a plainAnswer, ok bool) {
	line, rest, ok := cutLine(head)
	const before = "HTTP/1.1 "
	if !ok || len(line) < len("HTTP/1.1 200 ") || !strings.HasPrefix(line, before) || line[12] != ' ' || !visible(line) {
		return a, false
	}
	a.line = line
	if a.status, ok = digits(line[len(before):12]); !ok || a.status < 200 || a.status > 599 {
		return a, false
	}
	if rest, ok = f.read(rest); !ok || rest != "" || f.odd() {
		return a, false
	}
	lengths := f.header["Content-Length"]
	stated := len(lengths) == 1
	if stated {
		a.length, stated = digits(lengths[0])
	}
	if len(lengths) > 0 && !stated {
		return a, false
	}
	switch {
	case method == http.MethodHead:
		a.length = 0
	case a.status == http.StatusNoContent || a.status == http.StatusNotModified:
		return a, !stated
	}
	return a, method == http.MethodHead || stated && a.length <= mostPlain
}

func visible(line string) bool {
	for i := range len(line) {
		if line[i] < ' ' || line[i] >= 0x7f {
			return false
		}
	}
	return true
}

// digits reads a number without a sign and of a sane length.
func digits(s string) (int, bool) {
	if s == "" || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil
}

// appendAnswer writes the head of the response: what the client gets of fields, and when it was, if they do not say.
func (a *plainAnswer) appendHead(b []byte, header http.Header, date string) []byte {
	b = append(b, a.line...)
	b = append(b, "\r\n"...)
	for name, values := range header {
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if header["Date"] == nil {
		b = appendField(b, "Date", date)
	}
	return append(b, "\r\n"...)
}
