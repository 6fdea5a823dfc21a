package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzPlainRequests: what is taken for a plain request, net/http takes for the same one, with nothing after it, no body and
// nothing about the connection; but for what follows a % in its path.
func FuzzPlainRequests(f *testing.F) {
	path := "/" + token("a") + "/x?y"
	for _, s := range []string{
		"GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD " + path + " HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\nAccept:*/*\r\naccept: \tb \r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost : h\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: x\r\nX: y\r\n\r\nGET ",
		"GET  " + path + " HTTP/1.1\r\nHost: h\r\n\r\n", "GET " + path + " HTTP/1.0\r\nHost: h\r\n\r\n",
		"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /% HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add(s)
	}
	of := fields{header: http.Header{}}
	f.Fuzz(func(t *testing.T, head string) {
		var r http.Request
		if !of.readPlain(head, &r) {
			return
		}
		in := bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "%", "%25")))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("%q is plain, and to net/http: %v", head, err)
		}
		body, _ := io.ReadAll(want.Body)
		rest, _ := io.ReadAll(in)
		if len(body)+len(rest) > 0 || want.Close || len(want.TransferEncoding) > 0 || want.ContentLength != 0 || upgradeOf(want) != "" {
			t.Errorf("%q is plain, and to net/http it goes on with %q %q, %+v", head, body, rest, want)
		}
		unescape := func(s string) string { return strings.ReplaceAll(s, "%25", "%") }
		if r.Method != want.Method || r.RequestURI != unescape(want.RequestURI) || r.Host != unescape(want.Host) {
			t.Errorf("%q is %s %s %s, to net/http %s %s %s", head, r.Method, r.RequestURI, r.Host, want.Method, want.RequestURI, want.Host)
		}
		for name, values := range want.Header {
			for i := range values {
				values[i] = unescape(values[i])
			}
			want.Header[name] = values
		}
		if !reflect.DeepEqual(r.Header, want.Header) {
			t.Errorf("%q: %v, to net/http %v", head, r.Header, want.Header)
		}
	})
}

// FuzzPlainAnswers: what is taken for a plain response, net/http takes for the same one, with the same length.
func FuzzPlainAnswers(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n X: y\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	of := fields{header: http.Header{}}
	f.Fuzz(func(t *testing.T, said string, head bool) {
		r := &http.Request{Method: http.MethodGet}
		if head {
			r.Method = http.MethodHead
		}
		end := strings.Index(said, "\r\n\r\n")
		if end < 0 {
			return
		}
		a, ok := of.readAnswer(said[:end+4], r.Method)
		if !ok {
			return
		}
		body := make([]byte, a.length)
		in := bufio.NewReader(io.MultiReader(strings.NewReader(said[:end+4]), bytes.NewReader(body), strings.NewReader("rest")))
		want, err := http.ReadResponse(in, r)
		if err != nil {
			t.Fatalf("%q is plain, and to net/http: %v", said, err)
		}
		got, err := io.ReadAll(want.Body)
		rest, _ := io.ReadAll(in)
		if err != nil || len(got) != a.length || string(rest) != "rest" || want.Close || want.StatusCode != a.status {
			t.Errorf("%q is %+v, to net/http %d bytes, then %q, %+v (%v)", said, a, len(got), rest, want, err)
		}
		delete(of.header, "Connection") // net/http takes it out
		delete(want.Header, "Connection")
		if !reflect.DeepEqual(of.header, want.Header) {
			t.Errorf("%q: %v, to net/http %v", said, of.header, want.Header)
		}
	})
}
