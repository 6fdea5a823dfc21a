package proxy

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

func TestSplitPath(t *testing.T) {
	dynamic, static := token("a"), "s."+token("a")
	for path, want := range map[string]target{
		"/":                            {rest: "/"},
		"//":                           {rest: "/"},
		"/" + dynamic:                  {token: dynamic, rest: "/", bare: true},
		"/" + dynamic + "/":            {token: dynamic, rest: "/"},
		"/" + dynamic + "/a/../b":      {token: dynamic, rest: "/a/../b"},
		"/" + dynamic + "//b":          {token: dynamic, rest: "//b"},
		"/" + dynamic + "/%2F%252f%zz": {token: dynamic, rest: "/%2F%252f%zz"},
		"/" + static:                   {token: static, rest: "/" + static, bare: true},
		"/" + static + "/x":            {token: static, rest: "/" + static + "/x"},
	} {
		want.whole = path
		equal(t, path, splitPath(path), want)
	}
}

func TestTokenShaped(t *testing.T) {
	good := token("a")
	for tok, want := range map[string]bool{
		good: true, "s." + good: true,
		"": false, "s.": false, good[1:]: false, good + "A": false, "s.s." + good: false,
		good[1:] + "=": false, good[1:] + "%": false, good[1:] + ".": false, good[1:] + "*": false,
		"favicon.ico": false, "S." + good: false,
	} {
		equal(t, tok, tokenShaped(tok), want)
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		got, want string
		same      bool
	}{
		{"localhost:9090", "localhost:9090", true},
		{"LocalHost:9090", "localhost:9090", true},
		{"127.0.0.1:9090", "localhost:9090", false},
		{"localhost", "localhost:9090", false},
		{"localhost:9091", "localhost:9090", false},
		{"example.com", "example.com", true},
		{"example.com:443", "example.com", true},
		{"example.com:80", "example.com", true},
		{"example.com", "example.com:443", true},
		{"example.com", "example.com:80", true},
		{"example.com:8443", "example.com", false},
		{"a.example.com", "example.com", false},
		{"aexample.com", "example.com", false},
		{"[::1]:9090", "[::1]:9090", true},
		{"", "", false},
	} {
		equal(t, c.got+" for "+c.want, sameHost(c.got, c.want), c.same)
	}
}

func TestIsVerified(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Verified-Username": true, "x-verified-": true, "X_VERIFIED_SECRET": true, "x_Verified-a": true,
		"X.Verified.Username": true, "X!Verified~Secret": true, "x-verified.": true, "X'VERIFIED|Path": true,
		"X-Verified": false, "X-Verifiedly": false, "Y-Verified-Username": false, "": false,
	} {
		equal(t, name, isVerified(name), want)
	}
}

// FuzzTarget: whatever comes as a path, nothing panics, and the backend gets to
// see exactly what the client sent behind the token, in one request.
func FuzzTarget(f *testing.F) {
	tok := token("a")
	for _, path := range []string{
		"/", "//", "/" + tok, "/" + tok + "/", "/" + tok + "/a%2Fb/../c;d?x=1&y=%zz", "/s." + tok + "/x",
		"/" + tok + "//evil.example/|", "/" + tok + "/a|b^c\"{}", "/" + tok + "/\xff\xfe", "/" + tok + "/#frag", "/" + tok + "/%",
		"http://jetway.test/" + tok + "/a", "http://jetway.test", "http://jetway.test?x", "*", "/" + tok + "/?", "/" + tok + "/[::1]:80",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + uri + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil {
			return // the server refuses it
		}
		tg, ok := targetOf(req)
		if !ok {
			return
		}
		if !strings.HasPrefix(tg.whole, "/") || !strings.HasPrefix(tg.rest, "/") || strings.ContainsAny(tg.whole, "?\r\n ") {
			t.Fatalf("%q became %+v", uri, tg)
		}
		if !tokenShaped(tg.token) {
			return
		}
		if want := "/" + tg.token; !strings.HasPrefix(tg.whole, want) {
			t.Fatalf("%q is not at the front of %q", tg.token, tg.whole)
		}
		out := newOutgoing(req, tg, &route{backend: "be-a"}, origin{})
		head := string(out.appendHead(nil))
		line, _, _ := strings.Cut(head, "\r\n")
		equal(t, "request line", line, "GET "+tg.rest+tg.query+" HTTP/1.1")
		seen := bufio.NewReader(strings.NewReader(head))
		again, err := http.ReadRequest(seen)
		if err != nil {
			return // no URI to Go, but as it was sent
		}
		equal(t, "URI", again.RequestURI, tg.rest+tg.query)
		equal(t, "bytes left", seen.Buffered(), 0)
	})
}
