package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// One life, as it was recorded from a running Plane with curl and its own CLI (/pub, /ctrl): status codes, fields and
// their order.
func TestPlanesRecordedLifeIsAnsweredAsPlaneDoes(t *testing.T) {
	t.Parallel()
	f := start(t)
	cluster := sharedStack(t).Cluster
	connect := `{"key":{"name":"plane-doc-1","namespace":"n","tag":"t"},"spawn_config":{"id":"plane-one","cluster":"` + cluster + `","pool":"",` +
		`"executable":{"image":"x","pull_policy":"IfNotPresent"},"lifetime_limit_seconds":3600,"max_idle_seconds":null,"use_static_token":false,"subdomain":null},"user":"ada","auth":{"role":"owner"}}`
	spawned := f.ask("POST", "/ctrl/connect", connect)
	want(t, spawned, 200, `^\{"backend_id":"plane-one","spawned":true,"status":"scheduled","token":"[\w-]{43}","url":"http://localhost:\d+/[\w-]{43}/","subdomain":null,"secret_token":"[\w-]{43}","status_url":"http://127.0.0.1:\d+/pub/b/plane-one/status","drone":"dr-dev"\}$`)
	f.await("plane-one", messages.Ready)
	want(t, f.ask("POST", "/ctrl/connect", connect), 200, `"backend_id":"plane-one","spawned":false,"status":"ready",.*"drone":null\}$`)
	var connected gateway.Connected
	must(t, json.Unmarshal([]byte(spawned.body), &connected))
	want(t, f.ask("GET", strings.TrimPrefix(connected.StatusURL, f.url), ""), 200, `^\{"status":"ready","time":\d{13}\}$`)

	s := f.open("/pub/b/plane-one/status-stream")
	var seen []string
	for e := s.next(); ; e = s.next() {
		if seen = append(seen, e.id); e.id == "ready" {
			if !regexp.MustCompile(`^\{"status":"ready","time":\d{13}\}$`).MatchString(e.data) {
				t.Errorf("the event is %s", e.data)
			}
			break
		}
	}
	if seen[0] != "scheduled" || !slices.IsSortedFunc(seen, byStatus) {
		t.Errorf("saw %v", seen)
	}
	want(t, f.ask("POST", "/ctrl/b/revoke", `{"backend_id":"plane-one","user":"ada"}`), 200, `^"Token revoked successfully"$`)
	want(t, f.ask("POST", "/ctrl/revoke", `{"backend_id":"plane-one","user":"nobody"}`), 200, `^null$`)
	want(t, f.ask("POST", "/ctrl/connect", strings.Replace(connect, `"tag":"t"`, `"tag":"u"`, 1)), 409, `"kind":"KeyHeld"`)
	want(t, f.ask("POST", "/ctrl/b/plane-one/soft-terminate", ""), 200, `^null$`)
	f.await("plane-one", messages.Terminated)
	for e := s.next(); e.id != "terminated"; e = s.next() {
		if e.id != "terminating" {
			t.Errorf("saw %+v after the end was asked for", e)
		}
	}
	if e, more := <-s.events; more {
		t.Errorf("after the end: %+v", e)
	}
	want(t, f.ask("GET", "/pub/b/plane-one/status", ""), 200, `^\{"status":"terminated","termination_reason":"external","termination_kind":"soft","exit_error":false,"time":\d{13}\}$`)
	want(t, f.ask("POST", "/ctrl/b/plane-one/soft-terminate", ""), 200, `^null$`)
	want(t, f.ask("POST", "/ctrl/b/plane-one/hard-terminate", ""), 200, `^null$`)
	want(t, f.ask("POST", "/ctrl/connect", `{"key":{"name":"plane-doc-1","namespace":"n","tag":"t"}}`), 409, `"kind":"KeyUnheldNoSpawnConfig"`)
	// Who comes back to the stream of an ended backend is told to stay away, by the word that EventSource knows.
	want(t, f.ask("GET", "/pub/b/plane-one/status-stream", "", "Last-Event-ID", "terminated"), 204, `^$`)
}

func byStatus(a, b string) int {
	var x, y messages.Status
	_, _ = x.UnmarshalText([]byte(a)), y.UnmarshalText([]byte(b))
	return int(x - y)
}

func want(t testing.TB, got reply, status int, body string) {
	t.Helper()
	if got.status != status || !regexp.MustCompile(body).MatchString(got.body) {
		t.Errorf("answered with %d %s\nwanted %d %s", got.status, got.body, status, body)
	}
}

// What Plane refuses is refused with its status, its kind or its plain text.
func TestPlanesRefusalsAreAnsweredAsPlaneDoes(t *testing.T) {
	t.Parallel()
	f := start(t)
	cluster := sharedStack(t).Cluster
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		{"POST", "/ctrl/connect", `{}`, nil, 409, `^\{"id":"[A-Za-z0-9]{14,}","kind":"KeyUnheldNoSpawnConfig","message":".+"\}$`},
		{"POST", "/ctrl/connect", `{`, nil, 400, `^Failed to parse the request body as JSON: `},
		{"POST", "/ctrl/connect", `{}`, []string{"Content-Type", "text/plain"}, 415, "^Expected request with `Content-Type: application/json`$"},
		{"POST", "/ctrl/connect", `{"key":5}`, nil, 422, `^Failed to deserialize the JSON body into the target type: key`},
		{"POST", "/ctrl/connect", `{"spawn_config":{}}`, nil, 422, `^Failed to deserialize the JSON body into the target type: spawn_config.executable`},
		{"POST", "/ctrl/connect", `{"spawn_config":{"cluster":"nobody.test","executable":{}}}`, nil, 500, `"kind":"NoDroneAvailable"`},
		{"POST", "/ctrl/b/revoke", `{"backend_id":"b"}`, nil, 422, `^Failed to deserialize`},
		{"GET", "/ctrl/connect", "", nil, 405, `^$`},
		{"POST", "/pub/health", "", nil, 405, `^$`},
		{"OPTIONS", "/pub/b/x/status", "", nil, 200, `^$`},
		{"GET", "/ctrl/nothing", "", nil, 404, `^$`},
		{"GET", "/pub/health", "", nil, 200, `^\{"status":"ok"\}$`},
		{"GET", "/ctrl/status", "", nil, 200, `"status":"ok"`},
		{"GET", "/pub/b/none/status", "", nil, 404, `"kind":"NotFound","message":"Backend does not exist"`},
		{"GET", "/pub/b/UPPER/status", "", nil, 404, `"kind":"NotFound"`},
		{"POST", "/ctrl/b/none/soft-terminate", "", nil, 404, `"kind":"NotFound","message":"Backend does not exist"`},
		{"POST", "/ctrl/c/" + cluster + "/d/dr-none/drain", "", nil, 404, `"kind":"NotFound","message":"Drone does not exist"`},
		{"POST", "/ctrl/c/elsewhere/d/dr-dev/drain", "", nil, 404, `"kind":"NotFound"`},
		{"GET", "/ctrl/c/nobody.test/state", "", nil, 200, `^\{"drones":\[\],"proxies":\[\]\}$`},
		{"GET", "/ctrl/c/" + cluster + "/state", "", nil, 200, `"ready":true,"draining":false,"last_heartbeat_age":\d+,"backend_count":\d+,"node":\{"name":\{"Drone":"dr-dev"\},"plane_version":`},
	} {
		got := f.ask(c.method, c.path, c.body, c.headers...)
		t.Run(c.method+" "+c.path, func(t *testing.T) { want(t, got, c.status, c.want) })
		if public := strings.HasPrefix(c.path, "/pub"); public != (got.header.Get("Access-Control-Allow-Origin") == "*") {
			t.Errorf("%s %s: Access-Control-Allow-Origin is %q", c.method, c.path, got.header.Get("Access-Control-Allow-Origin"))
		}
		if allow := got.header.Get("Allow"); (got.status == 405) != (allow == "POST" || allow == "GET,HEAD") && c.method != "OPTIONS" {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, allow)
		}
	}
}

// drain says whether it changed anything, as Plane's.
func TestPlanesDrainSaysWhetherItChangedAnything(t *testing.T) {
	t.Parallel()
	stack := ownStack(t)
	f := startOn(t, stack.NATSURL)
	path := "/ctrl/c/" + stack.Cluster + "/d/dr-dev/drain"
	want(t, f.ask("POST", path, ""), 200, `^\{"updated":true\}$`)
	want(t, f.ask("POST", path, ""), 200, `^\{"updated":false\}$`)
	want(t, f.ask("POST", "/v1/undrain", `{"drone":"dr-dev"}`), 200, `"backends":0`)
	want(t, f.ask("POST", path, ""), 200, `^\{"updated":true\}$`)
}

// Plane's forward auth is asked about /ctrl as Plane asks, and not about /pub.
func TestForwardAuthIsAskedAsPlaneAsks(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 10)
	verdict := 204
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.WriteHeader(verdict)
	}))
	defer auth.Close()
	f := start(t, func(c *gateway.Config) { c.ForwardAuth = auth.URL })
	got := f.ask("POST", "/ctrl/connect", `{}`, "Authorization", "Bearer x", "Connection", "X-Hop", "X-Hop", "1")
	want(t, got, 409, "KeyUnheld")
	r := <-asked
	if r.Method != http.MethodPost || r.Header.Get("X-Original-Path") != "/connect" || r.Header.Get("Authorization") != "Bearer x" || r.ContentLength > 0 || r.Header.Get("X-Hop") != "" {
		t.Errorf("asked %s %+v with %d bytes", r.Method, r.Header, r.ContentLength)
	}
	verdict = 302
	want(t, f.ask("GET", "/ctrl/status", ""), 401, "^Unauthorized$")
	want(t, f.ask("GET", "/v1/backends", ""), 401, "^Unauthorized$")
	want(t, f.ask("GET", "/", ""), 401, "^Unauthorized$")
	want(t, f.ask("GET", "/pub/b/none/status", ""), 404, "NotFound")
	auth.Close()
	want(t, f.ask("GET", "/ctrl/status", ""), 502, "^Error forwarding auth.$")
	if n := len(asked); n != 3 {
		t.Errorf("asked %d times more", n)
	}
}

// ownStack is one for this test alone.
func ownStack(t *testing.T) *dev.Stack {
	t.Helper()
	return ownStackWith(t, dev.Config{})
}

func ownStackWith(t *testing.T, cfg dev.Config) *dev.Stack {
	t.Helper()
	dir, err := pgtest.StackData()
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg.Data, cfg.Runtime = dir, dev.RuntimeFake
	stack, err := dev.Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := stack.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return stack
}
