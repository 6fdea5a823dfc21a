package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestForwardsPathAndQueryAsTheyAre(t *testing.T) {
	w := newWorld(t)
	tok, static := token("a"), "s."+token("static")
	w.leads(tok, "be-a", echo)
	w.leads(static, "be-s", echo)
	for sent, seen := range map[string]string{
		"/" + tok + "/":                       "/",
		"/" + tok + "/a/b?x=1&y=2":            "/a/b?x=1&y=2",
		"/" + tok + "/a%2Fb%20c/%2e%2e/é?%zz": "/a%2Fb%20c/%2e%2e/é?%zz",
		"/" + tok + "/a/../b/./c//d":          "/a/../b/./c//d",
		"/" + tok + "//evil.example/x":        "//evil.example/x",
		"/" + tok + "/a|b^\"<>`{}":            "/a|b^\"<>`{}",
		"/" + tok + "/?a;b=c&d":               "/?a;b=c&d",
		"/" + tok + "/x?":                     "/x?",
		"/" + tok + "/" + tok + "/":           "/" + tok + "/",
		"http://jetway.test/" + tok + "/abs":  "/abs",
		"/" + static:                          "/" + static,
		"/" + static + "/a/b?x=1":             "/" + static + "/a/b?x=1",
	} {
		got := w.raw("GET " + sent + " HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: close\r\n\r\n")
		equal(t, sent, got.body, "GET "+seen+" host="+cluster+" body=")
	}
}

func TestTokenWithoutSlash(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	got := w.get("/" + tok + "?x=1&y=%2F")
	equal(t, "status", got.status, http.StatusTemporaryRedirect)
	equal(t, "location", got.header.Get("Location"), "/"+tok+"/?x=1&y=%2F")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cluster+"/"+tok+"?x", strings.NewReader("hi"))
	must(t, err)
	equal(t, "POST", w.do(req).body, "POST /?x host="+cluster+" body=hi")
}

func TestVerifiedHeaders(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	seen := make(chan *http.Request, 1)
	rt := ready("be-a", backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r
	}))
	rt.User, rt.Auth, rt.SecretToken = "Zoë", json.RawMessage(`{"role": "owner", "name": "Zoë"}`), "hush"
	w.worker.route(tok, rt)

	w.raw("POST /" + tok + "/a%20b?q HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: close, x-verified-username\r\n" +
		"x-verified-username: root\r\nX-VERIFIED-Secret: guess\r\nx_verified_username: root\r\nX-Verified-Role: root\r\n" +
		"X-Forwarded-For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\nX-Mine: 1\r\n" +
		"Transfer-Encoding: chunked\r\nTrailer: X-Verified-Late, X-Sum\r\n\r\n" +
		"2\r\nhi\r\n0\r\nX-Verified-Late: root\r\nx-verified-unannounced: root\r\nX-Sum: 42\r\n\r\n")
	r := testkit.Receive(t, seen, "the request")
	verified := 0
	for name, values := range r.Header {
		if isVerified(name) {
			verified++
			equal(t, name+" count", len(values), 1)
		}
	}
	equal(t, "number of verified headers", verified, 5)
	for name, want := range map[string]string{
		"X-Verified-Username": "Zo%C3%AB", "X-Verified-User-Data": `{"role":"owner","name":"Zo\u00eb"}`,
		"X-Verified-Path": "/" + tok + "/a%20b", "X-Verified-Backend": "be-a", "X-Verified-Secret": "hush",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": cluster, "X-Forwarded-Proto": "http", "Forwarded": "", "X-Mine": "1",
	} {
		equal(t, name, r.Header.Get(name), want)
	}
	equal(t, "trailers", fmt.Sprint(r.Trailer), "map[X-Sum:[42]]")
}

// What a token has nothing of is said to be empty, never left to the client or to whatever is in between.
func TestWhatATokenHasNothingOfIsEmpty(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q %q %q %d", r.Header["X-Verified-Username"], r.Header["X-Verified-User-Data"], r.Header["X-Verified-Secret"], len(r.Header["X-Verified-Path"][0]))
	})
	equal(t, "headers", w.get("/"+tok+"/", "x-verified-username", "root", "X-verified-USER-data", "{}", "X.Verified.Secret", "guess").body, `[""] ["{}"] [""] 45`)
	long := "/" + tok + "/" + strings.Repeat("a", 9<<10)
	equal(t, "headers, and a path that is not said twice", w.get(long).body, `[""] ["{}"] [""] 0`)
}

func TestHostMustMatch(t *testing.T) {
	w := newWorld(t)
	plain, sub := token("plain"), token("sub")
	address := backend(t, echo)
	w.worker.route(plain, ready("be-plain", address))
	rt := ready("be-sub", address)
	rt.Subdomain = "one"
	w.worker.route(sub, rt)
	for _, c := range []struct {
		token, host string
		status      int
	}{
		{plain, cluster, 200},
		{plain, "JETWAY.Test:443", 200},
		{plain, "one." + cluster, 403},
		{plain, "127.0.0.1", 403},
		{plain, "jetway.test.evil.example", 403},
		{sub, "one." + cluster, 200},
		{sub, "One." + cluster + ":80", 200},
		{sub, cluster, 403},
		{sub, "two." + cluster, 403},
		{sub, "a.one." + cluster, 403},
	} {
		got := w.get("/"+c.token+"/", "Host", c.host)
		equal(t, c.host, got.status, c.status)
		if want := hostOf(cluster, map[string]string{sub: "one"}[c.token]); c.status == 403 && !strings.Contains(got.body, "through "+want+" only") {
			t.Errorf("%s: the page does not name %s: %s", c.host, want, got.body)
		}
	}
}

func TestPagesOfTheProxy(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RootRedirect = "https://example.com/" })
	root := w.get("/")
	equal(t, "root", root.status, http.StatusFound)
	equal(t, "root's location", root.header.Get("Location"), "https://example.com/")
	equal(t, "//", w.get("//").status, http.StatusUnauthorized)
	equal(t, "OPTIONS *", w.raw("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status, http.StatusOK) // net/http's own answer
	equal(t, "CONNECT", w.raw("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n").status, http.StatusBadRequest)
	equal(t, "garbage", w.raw("\x16\x03\x01 garbage\r\n\r\n").status, http.StatusBadRequest)

	html := w.get("/"+token("none")+"/", "Accept", "text/html,*/*")
	equal(t, "dead token", html.status, http.StatusGone)
	if !strings.HasPrefix(html.body, "<!doctype html>") || html.header.Get("Cache-Control") != "no-store" || html.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("page: %+v", html)
	}
	var pg page
	must(t, json.Unmarshal([]byte(w.get("/"+token("none")+"/", "Accept", "application/json").body), &pg))
	if pg.ID == "" || pg.Status != 410 || pg.Message == "" || !w.log.contains("id="+pg.ID) {
		t.Errorf("JSON page: %+v", pg)
	}
}

func TestRootWithoutRedirect(t *testing.T) {
	w := newWorld(t)
	equal(t, "root", w.get("/").status, http.StatusUnauthorized)
}

func TestGarbageTokensAreNotAskedFor(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/favicon.ico", "/" + token("a") + "x/", "/s./", "/%2e%2e/x", "/jetway.>/", "/" + strings.Repeat("a", 10000)} {
		equal(t, path[:min(20, len(path))], w.get(path).status, http.StatusUnauthorized)
	}
	equal(t, "questions", w.worker.asks(), 0)
}

func TestCORS(t *testing.T) {
	w := newWorld(t)
	open, own := token("open"), token("own")
	w.leads(open, "be-open", echo)
	w.leads(own, "be-own", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://a.example")
		w.Header().Set("Server", "mine")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
	})
	got := w.get("/" + open + "/")
	equal(t, "origin", got.header.Get("Access-Control-Allow-Origin"), "*")
	equal(t, "methods", got.header.Get("Access-Control-Allow-Methods"), "*")
	equal(t, "headers", got.header.Get("Access-Control-Allow-Headers"), "*, Authorization")
	equal(t, "backend", got.header.Get("X-Jetway-Backend-Id"), "be-open")
	got = w.get("/" + own + "/")
	equal(t, "own origin", strings.Join(got.header.Values("Access-Control-Allow-Origin"), " "), "https://a.example")
	equal(t, "own methods", got.header.Get("Access-Control-Allow-Methods"), "")
	equal(t, "server", strings.Join(got.header.Values("Server"), " "), "Jetway")
	equal(t, "cookie", got.header.Get("Set-Cookie"), "a=b")
	equal(t, "location", got.header.Get("Location"), "/"+own+"/elsewhere")
}

// rude accepts connections and gives each to serve.
func rude(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			serve(conn)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestBadBackends(t *testing.T) {
	w := newWorld(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_ = closed.Close()
	for name, address := range map[string]string{
		"unreachable": closed.Addr().String(),
		"silent":      rude(t, func(net.Conn) {}),
		"garbage":     rude(t, func(c net.Conn) { _, _ = io.WriteString(c, "nonsense\r\n\r\n") }),
		"huge header": rude(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", 2<<20)+"\r\n\r\n")
		}),
		"1xx forever": rude(t, func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"); err != nil {
					return
				}
			}
		}),
		"unasked upgrade": rude(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}),
	} {
		w.worker.route(token(name), ready("be-bad", address))
		if name == "1xx forever" {
			// The client of this test gives up as well, so only the proxy's survival is seen.
			if resp, err := w.client.Get("http://" + cluster + "/" + token(name) + "/"); err == nil {
				equal(t, name, resp.StatusCode, http.StatusBadGateway)
				_ = resp.Body.Close()
			}
			continue
		}
		equal(t, name, w.get("/"+token(name)+"/").status, http.StatusBadGateway)
	}
}

func TestUnreachableBackendIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	tok := token("moved")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_ = closed.Close()
	w.worker.route(tok, ready("be-a", closed.Addr().String()))
	equal(t, "first", w.get("/"+tok+"/").status, http.StatusBadGateway)
	w.leads(tok, "be-a", echo)
	equal(t, "second", w.get("/"+tok+"/").status, http.StatusOK)
}

func TestBackendClosesMidResponse(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.worker.route(tok, ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	})))
	resp, err := w.client.Get("http://" + cluster + "/" + tok + "/")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil || string(body) != "half" {
		t.Errorf("read %q, %v; want half and an error", body, err)
	}
}

func TestMalformedBodyIsTheClientsFault(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	got := w.raw("POST /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n")
	equal(t, "status", got.status, http.StatusBadRequest)
}

func TestRequestSmuggling(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	for name, lines := range map[string]string{
		"two lengths":     "Content-Length: 3\r\nContent-Length: 5",
		"odd encoding":    "Transfer-Encoding: xchunked",
		"space in name":   "Transfer-Encoding : chunked\r\nContent-Length: 5",
		"newline in name": "X-Verified-\nUsername: root",
		"two hosts":       "Host: other.test",
	} {
		got := w.raw("POST /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n" + lines + "\r\nConnection: close\r\n\r\n0\r\n\r\n")
		if got.status < 400 {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}

func TestRefusalsNameTheBackend(t *testing.T) {
	w := newWorld(t)
	rt := ready("be-a", "")
	rt.Status = messages.Terminating
	w.worker.route(token("a"), rt)
	got := w.get("/" + token("a") + "/")
	equal(t, "status", got.status, http.StatusGone)
	equal(t, "backend", got.header.Get(headerBackendID), "be-a")
}
