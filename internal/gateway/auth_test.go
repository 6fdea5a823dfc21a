package gateway_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// raw sends bytes and reads until the server closes, or has answered.
func (f *fixture) raw(sent string) string {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	must(f.t, err)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, sent) }() // as far as it is read: who refuses a long body does not read it to its end
	stop := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(conn)
		stop <- data
	}()
	return string(testkit.Receive(f.t, stop, "the end of the connection"))
}

// rawUntil is raw of a gateway that waits but a moment, until the answer begins with one of what is wanted: on a slow machine it may be
// over before the head has come, and then nothing is answered, or that the head is none.
func (f *fixture) rawUntil(sent string, wanted ...string) (got string) {
	f.t.Helper()
	testkit.Eventually(f.t, "an answer that begins with "+strings.Join(wanted, " or "), func() bool {
		got = f.raw(sent)
		return slices.ContainsFunc(wanted, func(w string) bool { return strings.HasPrefix(got, w) })
	})
	return got
}

var all = []string{gateway.ScopeConnect, gateway.ScopeRead, gateway.ScopeOperate, gateway.ScopeTemplates}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// A token of one tenant learns and changes nothing of another, in any route that there is: this goes through the table.
func TestATokenOfAnotherTenantGetsNothingInAnyRoute(t *testing.T) {
	t.Parallel()
	file, token := tokens(t,
		gateway.Token{Name: "mine", Scopes: all, Namespaces: []string{"tenant-a"}},
		gateway.Token{Name: "other", Scopes: all, Namespaces: []string{"tenant-b", "tenant-c"}},
		gateway.Token{Name: "root", Scopes: all},
		gateway.Token{Name: "connects", Scopes: []string{gateway.ScopeConnect}})
	f := start(t, func(c *gateway.Config) { c.TokensFile = file; c.PrivatePub = true })
	connect := `{"key":{"name":"secret-doc","namespace":"tenant-a"},` + spawn + `}`
	b := f.connect(connect, bearer(token["mine"])...)
	f.await(b.BackendID, messages.Ready)
	bodies := map[string]string{
		"/v1/connect": connect, "/ctrl/connect": connect, "/v1/status": `{"backend_id":"` + b.BackendID + `"}`,
		"/v1/terminate": `{"backend_id":"` + b.BackendID + `"}`, "/v1/revoke": `{"backend_id":"` + b.BackendID + `","user":""}`,
		"/ctrl/b/revoke": `{"backend_id":"` + b.BackendID + `","user":""}`, "/ctrl/revoke": `{"backend_id":"` + b.BackendID + `","user":""}`,
		"/v1/drain": `{"drone":"dr-dev"}`, "/v1/undrain": `{"drone":"dr-dev"}`,
		"/v1/retry": `{"key":{"name":"secret-doc","namespace":"tenant-a"}}`, "/v1/templates": `{"name":"secret-doc","executable":{}}`,
	}
	open := map[string]bool{"/healthz": true, "/readyz": true, "/openapi.json": true, "/": true, "/page.js": true, "/page.css": true, "/login": true, "/logout": true}
	for _, r := range gateway.Routes() {
		path := strings.NewReplacer("{backend}", b.BackendID, "{drone}", "dr-dev", "{template}", "secret-doc", "{cluster}", sharedStack(t).Cluster).Replace(r.Path)
		if r.Scope == "" && !r.Public {
			if !open[r.Path] {
				t.Errorf("%s %s asks for no scope", r.Method, r.Path)
			}
			continue
		}
		if r.Path == "/pub/health" || r.Path == "/ctrl/status" || r.Path == "/v1/events" || r.Path == "/v1/backends" || r.Path == "/v1/keys" {
			continue // below, and they show nothing of anybody
		}
		for who, status := range map[string][]int{"other": {403, 404}, "": {401}, "made-up": {401}} {
			headers := bearer(token[who])
			if who == "" {
				headers = nil
			} else if who == "made-up" {
				headers = bearer("jwt0_made-up")
			}
			got := f.ask(r.Method, path, bodies[r.Path], headers...)
			if len(status) == 1 && got.status != status[0] || got.status < 400 || len(status) == 2 && got.status != status[0] && got.status != status[1] {
				t.Errorf("%s %s by %q: %d %s", r.Method, r.Path, who, got.status, got.body)
			}
			if strings.Contains(got.body, "secret-doc") {
				t.Errorf("%s %s tells %q: %s", r.Method, r.Path, who, got.body)
			}
		}
		if r.Scope != "" && r.Scope != gateway.ScopeConnect {
			want(t, f.ask(r.Method, path, bodies[r.Path], bearer(token["connects"])...), 403, "has not the scope "+r.Scope)
		}
	}
	// In the same words as of what is not there.
	gone := f.ask("GET", "/v1/backends/none", "", bearer(token["other"])...)
	his := f.ask("GET", "/v1/backends/"+b.BackendID, "", bearer(token["other"])...)
	if masked := strings.ReplaceAll(his.body, b.BackendID, "none"); gone.status != his.status || mask(masked) != mask(gone.body) {
		t.Errorf("of another's: %s\nof none: %s", his.body, gone.body)
	}
	list := f.ask("GET", "/v1/backends?all=true", "", bearer(token["other"])...)
	if list.status != 200 || strings.Contains(list.body, `"namespace":"tenant-a"`) {
		t.Errorf("the listing is %d %s", list.status, list.body)
	}
	for _, query := range []string{"", "?search=secret", "?namespace=tenant-a"} {
		if keys := f.ask("GET", "/v1/keys"+query, "", bearer(token["other"])...); strings.Contains(keys.body, "secret-doc") || keys.status == 200 && strings.Contains(keys.body, "tenant-a") {
			t.Errorf("the listing of keys %q is %d %s", query, keys.status, keys.body)
		}
	}
	if keys := f.ask("GET", "/v1/keys?namespace=tenant-a&state=live", "", bearer(token["mine"])...); keys.status != 200 || !strings.Contains(keys.body, "secret-doc") {
		t.Errorf("the listing of his keys is %d %s", keys.status, keys.body)
	}
	want(t, f.ask("POST", "/v1/terminate", `{"key":{"name":"secret-doc","namespace":"tenant-a"},"forget":true}`, bearer(token["other"])...), 403, "key.namespace")
	for _, mine := range []string{"/v1/backends/" + b.BackendID, "/v1/backends", "/pub/b/" + b.BackendID + "/status", "/v1/backends/" + b.BackendID + "/logs"} {
		want(t, f.ask("GET", mine, "", bearer(token["mine"])...), 200, "")
	}
	// The stream of all has what is one's own only.
	his2 := f.open("/v1/events", bearer(token["other"])...)
	mine := f.open("/v1/events", bearer(token["mine"])...)
	second := f.connect(strings.Replace(connect, "secret-doc", "secret-2", 1), bearer(token["mine"])...)
	c := f.connect(`{"key":{"name":"doc","namespace":"tenant-c"},`+spawn+`}`, bearer(token["other"])...)
	for e := his2.next(); ; e = his2.next() {
		if s := e.state(t); s.BackendID != c.BackendID {
			t.Errorf("another's stream has %s", e.data)
		} else if s.Status == messages.Ready {
			break
		}
	}
	for e := mine.next(); ; e = mine.next() {
		if s := e.state(t); s.BackendID != second.BackendID {
			t.Errorf("the stream of tenant-a has %s", e.data)
		} else if s.Status == messages.Ready {
			break
		}
	}
	for _, id := range []string{second.BackendID, c.BackendID} {
		want(t, f.ask("POST", "/v1/backends/"+id+"/sleep", "", bearer(token["root"])...), 200, `"asleep":true`)
	}
	for heard := false; !heard; {
		e := testkit.Receive(t, his2.events, "an event of sleep")
		if heard = strings.Contains(e.data, `"backend_id":"`+c.BackendID+`"`); e.name == "sleep" && !heard {
			t.Errorf("another's stream has %s", e.data)
		}
	}
	// Without a key he starts in his own namespace, where there is one.
	own := f.connect(`{`+spawn+`}`, bearer(token["mine"])...)
	if info := into[messages.BackendInfo](t, f.ask("GET", "/v1/backends/"+own.BackendID, "", bearer(token["root"])...)); info.Key.Namespace != "tenant-a" {
		t.Errorf("it was started in %+v", info.Key)
	}
	want(t, f.ask("POST", "/v1/connect", `{`+spawn+`}`, bearer(token["other"])...), 403, "key.namespace")
	if strings.Contains(f.log.String(), "jwt0_") {
		t.Error("there is a token in the log")
	}
	if !strings.Contains(f.log.String(), "token=mine") {
		t.Error("the access log does not say whose the requests are")
	}
}

// mask leaves the id of an error out.
func mask(body string) string {
	_, after, _ := strings.Cut(body, `"kind"`)
	return after
}

// Without tokens a gateway is for its own machine, and says so to an operator who wants more.
func TestWithoutTokensOnlyTheLoopbackIsServed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	defer listener.Close()
	server, err := metrics.StartGateway("", slog.New(slog.DiscardHandler))
	must(t, err)
	_, err = gateway.New(gateway.Config{Name: "gw-t", Listener: listener, Metrics: server})
	if err == nil || !strings.Contains(err.Error(), "jetway gateway token") {
		t.Errorf("listening for all: %v", err)
	}
}

// A token has its requests a second, and is told when to come again; others do not notice.
func TestI8RateLimitsAreForEachToken(t *testing.T) {
	t.Parallel()
	file, token := tokens(t, gateway.Token{Name: "a", Scopes: all, RequestsPerSecond: 0.001}, gateway.Token{Name: "b", Scopes: all})
	f := start(t, func(c *gateway.Config) { c.TokensFile = file })
	want(t, f.ask("GET", "/v1/drones", "", bearer(token["a"])...), 200, "")
	got := f.ask("GET", "/v1/drones", "", bearer(token["a"])...)
	want(t, got, 429, `"kind":"RateLimited"`)
	if n := len(got.header.Get("Retry-After")); n < 3 || n > 4 {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
	want(t, f.ask("GET", "/v1/drones", "", bearer(token["b"])...), 200, "")
}

// A changed file is taken up: new tokens work, and who has none any more hears no more. A bad one changes nothing, nor does one
// that is empty.
func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	file, token := tokens(t, gateway.Token{Name: "a", Scopes: all})
	f := start(t, func(c *gateway.Config) { c.TokensFile = file })
	s := f.open("/v1/events", bearer(token["a"])...)
	must(t, os.Truncate(file, 0)) // who writes it anew may be slow
	testkit.Eventually(t, "the empty file is noticed", func() bool { return strings.Contains(f.log.String(), "is empty") })
	want(t, f.ask("GET", "/v1/drones", "", bearer(token["a"])...), 200, "")
	second, line, err := gateway.NewToken(gateway.Token{Name: "b", Scopes: all})
	must(t, err)
	must(t, os.WriteFile(file, []byte(`{"name":"b"`), 0o600))
	testkit.Eventually(t, "the bad file is noticed", func() bool { return strings.Contains(f.log.String(), "line 1: ") })
	want(t, f.ask("GET", "/v1/drones", "", bearer(token["a"])...), 200, "")
	must(t, os.WriteFile(file, append(messages.Encode(line), '\n'), 0o600))
	testkit.Eventually(t, "the new token works", func() bool { return f.ask("GET", "/v1/drones", "", bearer(second)...).status == 200 })
	want(t, f.ask("GET", "/v1/drones", "", bearer(token["a"])...), 401, "not known")
	for range s.events { // until it is cut
	}
}

func TestBadLinesOfTokensAreRefused(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	for line, why := range map[string]string{
		`{"name":"a","sha256":"` + hash + `","scopes":["connect"]}`:                                                                "",
		"# a comment\n\n" + `{"name":"a","sha256":"` + hash + `","scopes":["read"],"namespaces":["x"]}`:                            "",
		`{"sha256":"` + hash + `","scopes":["connect"]}`:                                                                           "name",
		`{"name":"a","sha256":"ab","scopes":["connect"]}`:                                                                          "sha256",
		`{"name":"a","sha256":"` + hash + `","scopes":["admin"]}`:                                                                  "scopes",
		`{"name":"a","sha256":"` + hash + `"}`:                                                                                     "scopes",
		`{"name":"a","sha256":"` + hash + `","scopes":["read"],"namespaces":[]}`:                                                   "namespaces",
		`{"name":"a","sha256":"` + hash + `","scopes":["read"],"namespace":["x"]}`:                                                 "namespace: is no field",
		`{"name":"a","sha256":"` + hash + `","scopes":["read"]} {}`:                                                                "not JSON",
		`{"name":"a","sha256":"` + hash + `","scopes":["read"],"Scopes":["operate"]}`:                                              "Scopes: is no field",
		`{"name":"a","sha256":"` + hash + `","namespaces":["x"],"scopes":["read"],"namespaces":["y"]}`:                             "namespaces: is there twice",
		`{"name":"a","sha256":"` + hash + `","scopes":["read"]}` + "\n" + `{"name":"b","sha256":"` + hash + `","scopes":["read"]}`: "line 2: sha256",
	} {
		if err := gateway.ReadTokens(line); (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Plane's page for browsers: a cookie that no script reads; posts of other sites' pages are refused.
func TestThePageAsksForATokenAndKeepsItInACookie(t *testing.T) {
	t.Parallel()
	file, token := tokens(t, gateway.Token{Name: "ops", Scopes: all}, gateway.Token{Name: "web", Scopes: []string{gateway.ScopeConnect}})
	f := start(t, func(c *gateway.Config) { c.TokensFile = file })
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	want(t, f.ask("GET", "/", ""), 200, `action="/login"`)
	want(t, f.ask("POST", "/login", "token=nonsense", form...), 403, "not known")
	want(t, f.ask("POST", "/login", "token="+token["web"], form...), 403, "has not the scope read")
	got := f.ask("POST", "/login", "token="+token["ops"], form...)
	cookie := got.header.Get("Set-Cookie")
	if got.status != http.StatusSeeOther || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") {
		t.Fatalf("answered with %d, cookie %q", got.status, cookie)
	}
	kept, _, _ := strings.Cut(cookie, ";")
	page := f.ask("GET", "/", "", "Cookie", kept)
	want(t, page, 200, `data-operate="true"`)
	want(t, page, 200, `dr-dev`)
	if policy := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	want(t, f.ask("GET", "/v1/drones", "", "Cookie", kept), 200, "dr-dev")
	want(t, f.ask("POST", "/v1/undrain", `{"drone":"dr-dev"}`, "Cookie", kept, "Sec-Fetch-Site", "cross-site"), 403, "another site")
	want(t, f.ask("POST", "/v1/undrain", `{"drone":"dr-dev"}`, "Cookie", kept, "Sec-Fetch-Site", "same-origin"), 200, "backends")
	if out := f.ask("POST", "/logout", "", "Cookie", kept); !strings.Contains(out.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("signing out: %v", out.header)
	}
}
