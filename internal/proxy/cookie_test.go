package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// has makes a token lead to a ready backend at label.jetway.test.
func (w *world) has(label, token, id string, handler http.HandlerFunc) string {
	w.t.Helper()
	r := ready(id, backend(w.t, handler))
	r.Subdomain = label
	w.worker.route(token, r)
	return label + "." + cluster
}

// tells says which of the fields that let somebody in the backend saw.
func tells(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "%s cookie=%q authorization=%q referer=%q prefix=%q", r.RequestURI,
		r.Header["Cookie"], r.Header["Authorization"], r.Header["Referer"], r.Header["X-Forwarded-Prefix"])
}

// The demand of origin mode: the link hands its token to a cookie once, from then on every path is the backend's, and it never
// sees the cookie nor a bearer with the token.
func TestOriginEveryPathReachesTheBackendWhole(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	host := w.has("room", tok, "be-a", tells)

	entered := w.get(messages.EnterPath+tok+"/docs//x?q=1", "Host", host)
	equal(t, "enter", entered.status, http.StatusSeeOther)
	equal(t, "leads to", entered.header.Get("Location"), "/docs//x?q=1")
	equal(t, "cookie", entered.header.Get("Set-Cookie"), "__Host-jetway="+tok+"; Path=/; HttpOnly; Secure; SameSite=Lax")
	equal(t, "referrer policy", entered.header.Get("Referrer-Policy"), "no-referrer")
	for _, rest := range []string{"//evil.test/", `/\evil.test/`, `\\evil.test/`, `.\/evil.test`} {
		to := w.get(messages.EnterPath+tok+"/"+rest, "Host", host).header.Get("Location")
		if strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
			t.Errorf("%q leads to %q", rest, to)
		}
	}

	cookie := "a=1; __Host-jetway=" + tok + "; b=2"
	for _, path := range []string{"/", "/ready", "/" + token("looks-like-one") + "/x", "/.jetway/other", "/a/%2e%2e/b?c=/d"} {
		got := w.get(path, "Host", host, "Cookie", cookie, "Authorization", "Bearer of-the-application")
		equal(t, "with the cookie", got.body, path+` cookie=["a=1; b=2"] authorization=["Bearer of-the-application"] referer=[] prefix=[]`)
		got = w.get(path, "Host", host, "Authorization", "bearer "+tok)
		equal(t, "with the bearer", got.body, path+` cookie=[] authorization=[] referer=[] prefix=[]`)
	}
	// Two applications' own bearers look like tokens: the path comes first, and then what leads somewhere.
	got := w.get("/"+tok+"/x", "Host", host, "Authorization", "Bearer "+token("of-the-application"))
	equal(t, "beside a bearer of the application", got.body, `/x cookie=[] authorization=["Bearer `+token("of-the-application")+`"] referer=[] prefix=["/`+tok+`"]`)
	_, _, asked := w.proxy.routes.get(token("of-the-application"))
	equal(t, "a worker is asked for it", asked, false)
	got = w.get("/"+token("like-one"), "Host", host, "Authorization", "Bearer "+tok)
	equal(t, "below what looks like a token", got.body, "/"+token("like-one")+` cookie=[] authorization=[] referer=[] prefix=[]`)
	// A link with the token in its path beside what is left of a session that has ended.
	got = w.get("/"+tok+"/x", "Host", host, "Cookie", "__Host-jetway="+token("ended"))
	equal(t, "beside a cookie of an ended session", got.body, `/x cookie=[] authorization=[] referer=[] prefix=["/`+tok+`"]`)
}

// Who shows no token is told so, and one that leads nowhere is gone.
func TestOriginWithoutTheCookie(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RootRedirect = "https://example.com/" })
	tok, other := token("a"), token("other")
	host := w.has("room", tok, "be-a", tells)
	w.has("neighbour", other, "be-other", tells)
	page := w.get("/x", "Host", host, "Accept", "text/html")
	equal(t, "page", page.status, http.StatusUnauthorized)
	equal(t, "challenge", page.header.Get("Www-Authenticate"), "Bearer")
	if !strings.HasPrefix(page.body, "<!doctype html>") || !strings.Contains(page.body, "cookie") {
		t.Errorf("page: %s", page.body)
	}
	if body := w.get("/x", "Host", host, "Accept", "application/json").body; !strings.HasPrefix(body, `{"id":`) {
		t.Errorf("JSON: %s", body)
	}
	equal(t, "a frame is not led away", w.get("/", "Host", host, "Sec-Fetch-Dest", "iframe").status, http.StatusUnauthorized)
	for what, fields := range map[string][]string{
		"nothing":                  nil,
		"another session's cookie": {"Cookie", "__Host-jetway=" + other},
		"a cookie that is none":    {"Cookie", "__Host-jetway=x; jetway=" + tok},
		"half a bearer":            {"Authorization", "Bearer abc"},
		"a handshake":              {"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Version", "13"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+cluster+"/a/b?c", nil)
			must(t, err)
			equal(t, method+" with "+what, w.do(req, append([]string{"Host", host}, fields...)...).status, http.StatusUnauthorized)
		}
	}
	// However the host is written, it is the session's or it is not.
	for name, status := range map[string]int{
		strings.ToUpper(host): 200, host + ":443": 200, host + ".": 401, host + ":8443": 401, "x." + host: 401, cluster: 401, "[::1]": 401, "": 401,
	} {
		equal(t, "host "+name, w.raw("GET /x HTTP/1.1\r\nHost: "+name+"\r\nCookie: __Host-jetway="+tok+"\r\nConnection: close\r\n\r\n").status, status)
	}
	equal(t, "an ended session", w.get("/", "Host", host, "Cookie", "__Host-jetway="+token("none")).status, http.StatusGone)
	equal(t, "a dead link", w.get(messages.EnterPath+token("none"), "Host", host).status, http.StatusGone)
	equal(t, "half a link", w.get(messages.EnterPath+"abc", "Host", host).status, http.StatusGone)
	equal(t, "the wrong host", w.get(messages.EnterPath+tok, "Host", "other."+cluster).status, http.StatusForbidden)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://"+host+"/x", nil)
	must(t, err)
	equal(t, "a preflight", w.do(req, "Access-Control-Request-Method", "POST").status, http.StatusNoContent)
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+messages.EnterPath+tok, nil)
	must(t, err)
	equal(t, "a link posted to", w.do(req).status, http.StatusMethodNotAllowed)
}

// A cookie counts on a host that one session has to itself only: else a backend could set another's, and so
// take its visitors. Neither may a backend set it.
func TestOriginCookieLeadsNoVisitorAway(t *testing.T) {
	w := newWorld(t)
	thief, victim := token("thief"), token("victim")
	w.leads(thief, "be-thief", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Add("Set-Cookie", "__Host-jetway="+thief+"; Secure; Path=/")
		rw.Header().Add("Set-Cookie", "jetway="+thief+"; Path=/")
		rw.Header().Add("Set-Cookie", "mine=1")
		_, _ = rw.Write([]byte("thief"))
	})
	w.leads(victim, "be-victim", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("victim")) })
	equal(t, "set", strings.Join(w.get("/" + thief + "/").header["Set-Cookie"], " "), "mine=1")
	for _, name := range []string{"__Host-jetway", "jetway"} {
		equal(t, name, w.get("/"+victim+"/", "Cookie", name+"="+thief).body, "victim")
	}
	equal(t, "entering a shared host", w.get(messages.EnterPath+thief).status, http.StatusForbidden)
	// Without the prefix that browsers guard, a neighbour below the same cluster may have set it.
	host := w.has("room", token("room"), "be-room", tells)
	equal(t, "another name", w.get("/", "Host", host, "Cookie", "jetway="+token("room")).status, http.StatusUnauthorized)
}

// Neighbours are of one site, so browsers send the cookie with what a neighbour's page asks for.
func TestOriginAnotherPagesRequestDoesNotCount(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	host := w.has("room", tok, "be-a", tells)
	other := "https://other." + cluster
	for _, c := range []struct {
		what   string
		status int
		fields []string
	}{
		{"its own page", 200, []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://" + host}},
		{"typed in", 200, []string{"Sec-Fetch-Site", "none"}},
		{"a link elsewhere", 200, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}},
		{"a neighbour's fetch", 403, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Origin", other}},
		{"a neighbour's WebSocket", 403, []string{"Origin", other}},
		{"a WebSocket out of a sandbox", 403, []string{"Origin", "null"}},
		{"a form posted from elsewhere", 403, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", ":method", "POST"}},
		{"its own form, without a Referer", 200, []string{"Sec-Fetch-Site", "same-origin", "Origin", "null", ":method", "POST"}},
		{"an old browser's own form, without a Referer", 200, []string{"Origin", "null", ":method", "POST"}},
		{"an old browser's own", 200, []string{"Origin", "https://" + host}},
		{"a program", 200, nil},
	} {
		method := http.MethodGet
		if n := len(c.fields); n > 1 && c.fields[n-2] == ":method" {
			method, c.fields = c.fields[n-1], c.fields[:n-2]
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+cluster+"/", nil)
		must(t, err)
		got := w.do(req, append([]string{"Host", host, "Cookie", "__Host-jetway=" + tok}, c.fields...)...)
		equal(t, c.what, got.status, c.status)
	}
	equal(t, "a link that a neighbour's page fetches", w.get(messages.EnterPath+tok, "Host", host, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors").status, 403)
	equal(t, "with the bearer", w.get("/", "Host", host, "Authorization", "Bearer "+tok, "Origin", other).status, 200)
}

func TestOriginEmbedded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Embedded = true })
	tok := token("a")
	r := ready("be-a", backend(t, tells))
	r.Cluster, r.Subdomain = "localhost:9090", "room"
	w.worker.route(tok, r)
	got := w.get(messages.EnterPath+tok, "Host", "room.localhost:9090")
	equal(t, "cookie", got.header.Get("Set-Cookie"), "jetway="+tok+"; Path=/; HttpOnly; Secure; SameSite=None; Partitioned")
	equal(t, "then", w.get("/", "Host", "room.localhost:9090", "Cookie", "jetway="+tok).status, 200)
}
