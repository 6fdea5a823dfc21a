package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// Heads that two servers may read in two ways are refused, and the connection is closed: nothing that comes after such a head is
// taken for a request.
func TestWhatTwoServersReadInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	second := "POST /v1/terminate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	post := "POST /v1/connect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, sent := range map[string]string{
		"two lengths":              post + "Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}",
		"a list of lengths":        post + "Content-Length: 2, 90\r\n\r\n{}",
		"a signed length":          post + "Content-Length: +2\r\n\r\n{}",
		"a negative length":        post + "Content-Length: -2\r\n\r\n{}",
		"an unknown encoding":      post + "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"two encodings":            post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"a blank before the colon": post + "Content-Length : 2\r\n\r\n{}",
		"a NUL in a head":          post + "X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
		"a bare CR":                post + "X: a\rContent-Length: 90\r\nContent-Length: 2\r\n\r\n{}",
		"no Host":                  "POST /v1/connect HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
		"two Hosts":                post + "Host: evil.example\r\nContent-Length: 2\r\n\r\n{}",
		"a bad chunk":              post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"no request":               "\x16\x03\x01 hello\r\n\r\n",
	} {
		got := w.raw(sent + second)
		if status, _, _ := strings.Cut(strings.TrimPrefix(got, "HTTP/1.1 "), " "); status != "400" && status != "501" {
			t.Errorf("%s: answered with %.60q", name, got)
		}
		if strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: what follows is taken for a request: %q", name, got)
		}
	}
}

// Paths and methods that mean something else to somebody reach no route, and tell nothing.
func TestStrangePathsReachNoRoute(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	for request, status := range map[string]string{
		"GET /pub/../v1/backends HTTP/1.1":             "307", // cleaned, and asked for anew
		"GET //v1/backends HTTP/1.1":                   "307",
		"GET /v1/backends/%2e%2e/drones HTTP/1.1":      "404", // a backend of that name, which there is not
		"GET /v1/backends/a%2fb HTTP/1.1":              "404",
		"GET /v1/backends/a%00b HTTP/1.1":              "404",
		"GET /V1/backends HTTP/1.1":                    "404",
		"GET /v1/backends/ HTTP/1.1":                   "404",
		"GET /pub/b/a%0d%0aX:%20y/status HTTP/1.1":     "404",
		"GET /pub/b/UPPER/status-stream HTTP/1.1":      "404",
		"CONNECT localhost:80 HTTP/1.1":                "404",
		"TRACE /v1/backends HTTP/1.1":                  "405",
		"PUT /v1/connect HTTP/1.1":                     "405",
		"GET http://evil.example/v1/backends HTTP/1.1": "403", // its Host is that, whatever the header says
	} {
		got := w.raw(request + "\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+status+" ") || strings.Contains(got, "X: y\r\n") {
			t.Errorf("%s: answered with %.80q", request, got)
		}
	}
}

// A body that says it is long and does not come, one that has no end, and one beyond the bound, said or not: none of them is kept.
func TestI8BodiesAreBoundedHoweverTheyCome(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	head := "POST /v1/connect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	if got := w.raw(head + "Content-Length: 99999999999\r\n\r\n{"); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("a long one is answered with %.60q", got)
	}
	endless := head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", messages.MaxPayload/0x1000+1)
	if got := w.raw(endless); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("one without an end is answered with %.60q", got)
	}
	deep := strings.Repeat("[", 100000) + strings.Repeat("]", 100000)
	want(t, w.ask("POST", "/v1/status", `{"key":`+deep+`}`), 400, "BadRequest")
	want(t, w.ask("POST", "/v1/status", `{"backend_id":"a","backend_id":"b"}`), 400, "twice")
	want(t, w.ask("POST", "/v1/status", `{"Backend_ID":"a"}`), 400, "backend_id")
	slow := startWithoutWorkers(t, "", func(c *gateway.Config) { c.Slow(200*time.Millisecond, testkit.Patience) })
	if got := slow.rawUntil(head+"Content-Length: 300000\r\n\r\n{", "HTTP/1.1 408 "); !strings.Contains(got, "Connection: close") {
		t.Errorf("one that does not come is answered with %.60q", got)
	}
}
