package proxy_test

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// attack is what a client sends in place of one request, in the hope that the backend
// sees two. In it, {path} and {host} stand for what leads to the backend, {inner} for
// the request to be smuggled, {len} and {hex} for the length of that.
type attack struct {
	name, bytes string
	// refused: no whole request of it may reach the backend. Else at most one may.
	refused bool
}

const inner = "GET {path}smuggled HTTP/1.1\r\nHost: {host}\r\nX-Verified-Username: root\r\n\r\n"

// body is what a proxy that goes by chunks takes for the end, and one that goes by
// length for a body.
const body = "0\r\n\r\n{inner}"

// post is the head of a request with these lines, and what follows it.
func post(lines, rest string) string {
	return "POST {path}attack HTTP/1.1\r\nHost: {host}\r\n" + lines + "\r\n\r\n" + rest
}

func attacks() []attack {
	refused := func(name, bytes string) attack { return attack{name, bytes, true} }
	either := func(name, bytes string) attack { return attack{name, bytes, false} }
	const length = "Content-Length: {len5}" // of body
	list := []attack{
		either("CL.TE", post(length+"\r\nTransfer-Encoding: chunked", body)),
		either("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4", "{hex}\r\n{inner}\r\n0\r\n\r\n")),
		either("TE.CL, whole length", post("Transfer-Encoding: chunked\r\n"+length, body)),
		either("chunks in HTTP/1.0", "POST {path}attack HTTP/1.0\r\nHost: {host}\r\n"+length+"\r\nTransfer-Encoding: chunked\r\n\r\n"+body),
		either("only chunks in HTTP/1.0", "POST {path}attack HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"+body),

		refused("two lengths", post("Content-Length: 0\r\n"+length, body)),
		refused("two lengths, the other way", post(length+"\r\nContent-Length: 0", body)),
		refused("a list of lengths", post("Content-Length: 0, {len5}", body)),
		refused("negative length", post("Content-Length: -1", "{inner}")),
		refused("length with a plus", post("Content-Length: +0", "{inner}")),
		refused("hexadecimal length", post("Content-Length: 0x0", "{inner}")),
		refused("two numbers for a length", post("Content-Length: 0 {len5}", body)),
		refused("length with an underscore", post("Content-Length: 0_0", "{inner}")),
		refused("length beyond any", post("Content-Length: 99999999999999999999999", "{inner}")),
		refused("length that overflows to nothing", post("Content-Length: 18446744073709551616", "{inner}")),
		refused("length in other digits", post("Content-Length: \u0661", "{inner}")),
		either("empty length", post("Content-Length: ", "")),
		either("two equal lengths", post("Content-Length: 2\r\nContent-Length: 2", "hi")),
		either("length with zeros before it", post("Content-Length: 002", "hi")),

		refused("space before the colon of the length", post("Content-Length : {len5}", body)),
		refused("space before the colon of the encoding", post("Transfer-Encoding : chunked\r\n"+length, body)),
		refused("tab before the colon of the encoding", post("Transfer-Encoding\t: chunked\r\n"+length, body)),
		refused("space within the name", post("Transfer Encoding: chunked\r\n"+length, body)),
		refused("newline within the name", post("Transfer-Encoding\n: chunked\r\n"+length, body)),
		refused("NUL within the name", post("Transfer-Encoding\x00: chunked\r\n"+length, body)),
		refused("no name", post(": chunked\r\n"+length, body)),
		refused("no colon", post("Transfer-Encoding chunked\r\n"+length, body)),
		refused("NUL in a value", post("X-A: a\x00b\r\n"+length, body)),
		refused("first header folded", "POST {path}attack HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: {host}\r\n"+length+"\r\n\r\n"+body),
		either("folded header", post("X-A: a\r\n Transfer-Encoding: chunked\r\n"+length, body)),
		either("folded with a tab", post("X-A: a\r\n\tTransfer-Encoding: chunked\r\n"+length, body)),
		either("folded length", post("Content-Length:\r\n {len5}", body)),
		either("folded encoding", post("Transfer-Encoding:\r\n chunked\r\n"+length, body)),

		either("newlines alone", "POST {path}attack HTTP/1.1\nHost: {host}\nContent-Length: {len5}\n\n"+body),
		either("a newline alone before the encoding", post("X-A: a\nTransfer-Encoding: chunked\r\n"+length, body)),
		either("a newline alone before the length", post("X-A: a\nContent-Length: {len5}", body)),
		refused("a return alone before the encoding", post("X-A: a\rTransfer-Encoding: chunked\r\n"+length, body)),
		refused("a return alone after the name", post("X-A:\rContent-Length: {len5}", "")),
		either("an empty line of a newline alone", "POST {path}attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len5}\r\n\n"+body),

		either("chunk extension", post("Transfer-Encoding: chunked", "2;a=b\r\nhi\r\n0\r\n\r\n")),
		refused("chunk extension with a newline alone", post("Transfer-Encoding: chunked", "2;\n{hex}\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("hexadecimal chunk length with its sign", post("Transfer-Encoding: chunked", "0x2\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("chunk length with a plus", post("Transfer-Encoding: chunked", "+2\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("negative chunk length", post("Transfer-Encoding: chunked", "-2\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("chunk length that overflows", post("Transfer-Encoding: chunked", "10000000000000002\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("no chunk length", post("Transfer-Encoding: chunked", "\r\nhi\r\n0\r\n\r\n{inner}")),
		refused("chunk longer than its length", post("Transfer-Encoding: chunked", "2\r\nhihi\r\n0\r\n\r\n{inner}")),
		either("newlines alone after chunks", post("Transfer-Encoding: chunked", "2\nhi\n0\n\n")),
		either("framing in trailers", post("Transfer-Encoding: chunked\r\nTrailer: Content-Length, X-A",
			"2\r\nhi\r\n0\r\nContent-Length: 77\r\nTransfer-Encoding: chunked\r\nHost: evil.test\r\nX-Verified-Username: root\r\nX-A: a\r\n\r\n")),

		either("GET with a body", "GET {path}attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n{inner}"),
		either("GET with chunks", "GET {path}attack HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{hex}\r\n{inner}\r\n0\r\n\r\n"),
		either("OPTIONS with a body", "OPTIONS {path}attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n{inner}"),
		either("DELETE with a body", "DELETE {path}attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n{inner}"),
		either("the length is for this hop only", post("Connection: Content-Length\r\nContent-Length: {len}", "{inner}")),
		either("the encoding is for this hop only", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "{hex}\r\n{inner}\r\n0\r\n\r\n")),
		either("the host is for this hop only", post("Connection: Host, X-Verified-Path\r\nContent-Length: {len}", "{inner}")),
		either("an expectation with its body", post("Expect: 100-continue\r\nContent-Length: {len}", "{inner}")),
		refused("an unknown expectation", post("Expect: 200-maybe\r\nContent-Length: {len}", "{inner}")),

		refused("CONNECT", "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("CONNECT with a path", "CONNECT {path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("whole URL of another host", "GET http://evil.test{path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		either("whole URL, another Host", "GET http://{host}{path}attack HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		refused("whole URL with a user", "GET http://{host}@evil.test{path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("two Hosts", "GET {path}attack HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\n\r\n"),
		refused("no Host", "GET {path}attack HTTP/1.1\r\n\r\n"),
		refused("Host with a path", "GET {path}attack HTTP/1.1\r\nHost: {host}/a\r\n\r\n"),
		refused("Host with a user", "GET {path}attack HTTP/1.1\r\nHost: a@{host}\r\n\r\n"),
		refused("list of Hosts", "GET {path}attack HTTP/1.1\r\nHost: {host}, evil.test\r\n\r\n"),
		either("newline for the Host", "GET {path}attack HTTP/1.1\r\nHost: {host}\nX-Verified-Username: root\r\n\r\n"),

		refused("two versions", "GET {path}attack HTTP/1.1 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("space in the path", "GET {path}attack x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("tab in the path", "GET {path}attack\tx HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("NUL in the path", "GET {path}attack\x00 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("return in the path", "GET {path}attack\rX-Verified-Username: root HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		either("escaped newlines in the path", "GET {path}attack%0d%0aX-Verified-Username:%20root HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("no version", "GET {path}attack\r\nHost: {host}\r\n\r\n"),
		refused("version 2.0", "GET {path}attack HTTP/2.0\r\nHost: {host}\r\n\r\n"),
		refused("version in lower case", "GET {path}attack http/1.1\r\nHost: {host}\r\n\r\n"),
		refused("NUL in the method", "GE\x00T {path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("method with a colon", "GET: {path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		refused("two spaces", "GET  {path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),
		either("empty lines before the request", "\r\n\r\nGET {path}attack HTTP/1.1\r\nHost: {host}\r\n\r\n"),

		either("upgrade to HTTP/2", "GET {path}attack HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"),
		refused("HTTP/2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{inner}"),
	}
	// The same encoding said so that only one of two believes it.
	for _, te := range []string{
		"xchunked", "chunke", "chunked, identity", "identity, chunked", "gzip, chunked", "chunked, chunked", "chunked;q=1", "\"chunked\"", "'chunked'",
		"\x0bchunked", "\x0cchunked", "\u00a0chunked", "chunked\x00", "chunked\x7f", "[chunked]", "chunk ed", "identity", "",
		"x\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: x", "chunked\r\nTransfer-Encoding: identity", "chunked\r\nTransfer-Encoding: chunked",
	} {
		list = append(list, refused("encoding "+strconv.Quote(te), post("Transfer-Encoding: "+te+"\r\n"+length, body)))
	}
	for _, line := range []string{"Transfer_Encoding: chunked", "TransferEncoding: chunked", "X-Transfer-Encoding: chunked", "Content_Length: 0"} {
		list = append(list, either(line, post(line+"\r\n"+length, body)))
	}
	for _, line := range []string{"Transfer-Encoding:\tchunked", "TRANSFER-ENCODING: CHUNKED", "transfer-encoding:   chunked  "} {
		list = append(list, either(strconv.Quote(line), post(line, "2\r\nhi\r\n0\r\n\r\n")))
	}
	return list
}

// Request smuggling is refused (the demand): of what a client sends in place of
// one request, the backend never sees two, nor anything that it could take for two, nor
// a verified header that the client made. After each attack comes an honest request that
// ends the connection, so that what was swallowed, or left over, is seen.
func TestE2ERequestSmuggling(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	strict := &strictBackend{}
	backend := newRawBackend(t, strict.serve)
	path := s.leads(backend.address)
	// First all of them, then what came of each: what is seen late is seen.
	list := attacks()
	said := make([]string, len(list))
	for i, a := range list {
		fill := strings.NewReplacer("{path}", path+strconv.Itoa(i)+"/", "{host}", s.cluster)
		hidden := fill.Replace(inner)
		sent := strings.NewReplacer("{inner}", hidden, "{len}", strconv.Itoa(len(hidden)), "{len5}", strconv.Itoa(len(hidden)+5),
			"{hex}", strconv.FormatInt(int64(len(hidden)), 16)).Replace(fill.Replace(a.bytes))
		conn := dialTo(t, s.addr)
		_, _ = io.WriteString(conn, sent+fill.Replace("GET {path}last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
		said[i] = ends(t, conn, a.name)
		s.serves(path)
	}
	for i, a := range list {
		t.Run(a.name, func(t *testing.T) {
			strict.check(t, "/"+strconv.Itoa(i)+"/", a.refused, said[i])
		})
	}
}

// check looks at what came of the attack below path.
func (b *strictBackend) check(t *testing.T, path string, refused bool, said string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		if strings.Contains(problem, path) {
			t.Errorf("the backend is sent %s", problem)
		}
	}
	of := func(heads []string, what string) (found []string) {
		for _, head := range heads {
			if line, _, _ := strings.Cut(head, "\r\n"); strings.Contains(line, path+what) {
				found = append(found, head)
			}
		}
		return found
	}
	if smuggled := of(b.seen, "smuggled"); len(smuggled) > 0 || len(of(b.seen, "attack")) > 1 {
		t.Errorf("the backend sees more requests than one that were sent as one: %q", of(b.seen, ""))
	}
	for _, head := range of(b.seen, "") {
		if strings.Contains(strings.ToLower(head), "username: root") {
			t.Errorf("the backend is told that this is root: %q", head)
		}
		// Through a tunnel of HTTP requests come that nobody looks at.
		if strings.Contains(strings.ToLower(head), "h2c") {
			t.Errorf("the backend is asked for HTTP/2 on this connection: %q", head)
		}
	}
	status := regexp.MustCompile(`^HTTP/1\.[01] (\d+)`).FindStringSubmatch(said)
	if refused && (len(of(b.whole, "attack")) > 0 || (status != nil && status[1] < "400")) {
		t.Errorf("it is not refused: the backend sees %q, the client %.200q", of(b.whole, ""), said)
	}
}

// strictBackend answers requests, however many come on a connection, and notes what in
// them another backend could read differently.
type strictBackend struct {
	mu       sync.Mutex
	seen     []string // heads
	whole    []string // heads of requests that came whole
	problems []string
}

func (b *strictBackend) noteWhole(head string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = append(b.whole, head)
}

func (b *strictBackend) note(head string, problem error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, head)
	if problem != nil {
		b.problems = append(b.problems, fmt.Sprintf("%v: %q", problem, head))
	}
}

func (b *strictBackend) serve(c *rawConn, head string) {
	for ; head != ""; head = c.head() {
		size, err := framing(head)
		b.note(head, err)
		if err != nil {
			return
		}
		if size >= 0 {
			_, err = io.CopyN(io.Discard, c.from, size)
		} else {
			err = skipChunks(c)
		}
		if err != nil {
			return
		}
		b.noteWhole(head)
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
			return
		}
	}
	// What is no head is what somebody left over.
	if rest := c.received(); !strings.HasSuffix(rest, "\r\n\r\n") && c.from.Buffered() > 0 {
		b.note(rest, fmt.Errorf("something that is no request"))
	}
}

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ /[^\x00-\x20\x7f]* HTTP/1\.1$`)
	headerLine  = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)$")
)

// framing reads how long a request's body is, -1 for chunks, by the letter.
func framing(head string) (size int64, err error) {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	if !requestLine.MatchString(lines[0]) {
		return 0, fmt.Errorf("an odd request line")
	}
	seen := map[string]string{}
	for _, line := range lines[1:] {
		m := headerLine.FindStringSubmatch(line)
		if m == nil {
			return 0, fmt.Errorf("an odd header %q", line)
		}
		name := strings.ToLower(strings.ReplaceAll(m[1], "_", "-"))
		if _, twice := seen[name]; twice && (name == "host" || name == "transfer-encoding" || name == "content-length") && !strings.Contains(m[1], "_") {
			return 0, fmt.Errorf("two of %s", name)
		}
		if !strings.Contains(m[1], "_") {
			seen[name] = strings.TrimRight(m[2], " \t")
		}
	}
	if seen["host"] == "" {
		return 0, fmt.Errorf("no Host")
	}
	length, sized := seen["content-length"]
	encoding, chunked := seen["transfer-encoding"]
	switch {
	case sized && chunked:
		return 0, fmt.Errorf("both a length and an encoding")
	case chunked && encoding != "chunked":
		return 0, fmt.Errorf("the encoding %q", encoding)
	case chunked:
		return -1, nil
	case sized:
		if !regexp.MustCompile(`^\d{1,18}$`).MatchString(length) {
			return 0, fmt.Errorf("the length %q", length)
		}
		return strconv.ParseInt(length, 10, 64)
	}
	return 0, nil
}

// skipChunks reads a chunked body with its trailers, by the letter.
func skipChunks(c *rawConn) error {
	line := func() (string, error) {
		text, err := c.from.ReadString('\n')
		if err != nil {
			return "", err
		}
		text, ok := strings.CutSuffix(text, "\r\n")
		if !ok {
			return "", fmt.Errorf("a line without its return")
		}
		return text, nil
	}
	for {
		text, err := line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(text, 16, 31)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, c.from, int64(size)); err != nil {
			return err
		}
		if text, err := line(); err != nil || text != "" {
			return fmt.Errorf("a chunk without its end: %q, %w", text, err)
		}
	}
	for {
		if text, err := line(); err != nil || text == "" {
			return err
		}
	}
}
