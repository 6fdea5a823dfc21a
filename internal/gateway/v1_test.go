package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const spawn = `"spawn_config":{"executable":{}}`

// All that can be asked on the bus can be asked at /v1, and is answered with the same JSON.
func TestV1AnswersAsTheBusDoes(t *testing.T) {
	t.Parallel()
	f := start(t)
	b := f.connect(`{"key":{"name":"v1-life","namespace":"v1"},"user":"ann",` + spawn + `}`)
	if !b.Spawned || b.Token == "" || b.StatusURL != f.url+"/pub/b/"+b.BackendID+"/status" {
		t.Errorf("connect: %+v", b)
	}
	f.await(b.BackendID, messages.Ready)
	id := `{"backend_id":"` + b.BackendID + `"}`
	want(t, f.ask("POST", "/v1/templates", `{"name":"v1-template","pool":"nowhere","executable":{"a":1}}`), 200, `^\{"revision":\d+,"drones":0\}$`)
	for path, c := range map[string]struct{ subject, body string }{
		"POST /v1/status":                          {messages.SubjectStatus, id},
		"GET /v1/backends/" + b.BackendID:          {messages.SubjectStatus, id},
		"GET /v1/backends?limit=200&drone=dr-gone": {messages.SubjectBackends, `{"drone":"dr-gone"}`},
		"POST /v1/revoke":                          {messages.SubjectRevoke, `{"backend_id":"` + b.BackendID + `","user":"nobody"}`},
		"POST /v1/undrain":                         {messages.SubjectUndrain, `{"drone":"dr-none"}`},
		"POST /v1/backends/v1-none/sleep":          {messages.SubjectSleep, `{"backend_id":"v1-none"}`},
		"POST /v1/backends/v1-none/wake":           {messages.SubjectWake, `{"backend_id":"v1-none"}`},
		"POST /v1/retry":                           {messages.SubjectRetry, `{"key":{"name":"v1-life","namespace":"v1"}}`},
		"POST /v1/templates":                       {messages.SubjectTemplatePut, `{"name":"v1-template","revision":1,"executable":{}}`}, // there is another revision
		"GET /v1/templates?limit=1&after=v1-templ": {messages.SubjectTemplateList, `{"limit":1,"after":"v1-templ"}`},
		"GET /v1/templates/v1-template":            {messages.SubjectTemplateGet, `{"name":"v1-template"}`},
		"GET /v1/templates/v1-none":                {messages.SubjectTemplateGet, `{"name":"v1-none"}`},
		"DELETE /v1/templates/v1-none?revision=1":  {messages.SubjectTemplateDelete, `{"name":"v1-none","revision":1}`},
	} {
		method, path, _ := strings.Cut(path, " ")
		body := ""
		if method == "POST" {
			body = c.body
		}
		got := f.ask(method, path, body)
		on, err := client.RequestRaw(testkit.Context(t), f.nc, c.subject, []byte(c.body))
		if err == nil && got.body != string(on) {
			t.Errorf("%s: %s\non the bus: %s", path, got.body, on)
		}
		if err != nil && (messages.KindOf(err).Code() != got.status || !strings.Contains(got.body, `"kind":"`+string(messages.KindOf(err))+`"`)) {
			t.Errorf("%s: %d %s\non the bus: %v", path, got.status, got.body, err)
		}
	}
	var lines gateway.Lines
	must(t, json.Unmarshal([]byte(f.ask("GET", "/v1/backends/"+b.BackendID+"/logs", "").body), &lines))
	events := into[gateway.Events](t, f.ask("GET", "/v1/backends/"+b.BackendID+"/events", ""))
	if n := len(events.Events); n < 2 || events.Events[0].Status != messages.Scheduled || events.Events[n-1].Status != messages.Ready {
		t.Errorf("events: %+v", events)
	}
	want(t, f.ask("DELETE", "/v1/templates/v1-template?revision=first", ""), 400, "revision: must be a whole number from 1 on")
	want(t, f.ask("DELETE", "/v1/templates/v1-template", ""), 200, `^\{\}$`)
	want(t, f.ask("GET", "/v1/templates/v1-template", ""), 404, "v1-template")
	want(t, f.ask("POST", "/v1/terminate", id), 200, `^\{\}$`)
	f.await(b.BackendID, messages.Terminated)

	// Listings go on with their cursor.
	for i := range 3 {
		f.connect(fmt.Sprintf(`{"key":{"name":"v1-page-%d"},%s}`, i, spawn))
	}
	seen, after := map[string]bool{}, ""
	for {
		page := into[messages.BackendsResponse](t, f.ask("GET", "/v1/backends?limit=2&after="+after, ""))
		for _, b := range page.Backends {
			seen[b.Key.Name] = true
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if !seen["v1-page-0"] || !seen["v1-page-1"] || !seen["v1-page-2"] {
		t.Errorf("pages have %v", seen)
	}
	if d := into[messages.DronesResponse](t, f.ask("GET", "/v1/drones", "")); len(d.Drones) != 1 || d.Drones[0].Drone != "dr-dev" {
		t.Errorf("drones: %+v", d)
	}
}

// A connect without a key that is repeated with its Idempotency-Key gets the same backend, from any gateway and at the same
// time too; another request with that key is refused, and after the backend's end no second one is started.
func TestI7RepeatedConnectsWithOneIdempotencyKeySpawnOnce(t *testing.T) {
	t.Parallel()
	f, other := start(t), start(t)
	body := `{` + spawn + `}`
	var asking sync.WaitGroup
	got := make([]reply, 8)
	for i := range got {
		asking.Go(func() {
			got[i] = []*fixture{f, other}[i%2].ask("POST", "/v1/connect", body, "Idempotency-Key", "once-1")
		})
	}
	asking.Wait()
	spawned := 0
	first := into[gateway.Connected](t, got[0])
	for _, r := range got {
		c := into[gateway.Connected](t, r)
		if c.BackendID != first.BackendID {
			t.Errorf("one was given %s, another %s", first.BackendID, c.BackendID)
		}
		if c.Spawned {
			spawned++
		}
	}
	if spawned != 1 {
		t.Errorf("%d of them spawned", spawned)
	}
	want(t, f.ask("POST", "/v1/connect", `{"spawn_config":{"executable":{"fake":{}}}}`, "Idempotency-Key", "once-1"), 409, `"kind":"KeyHeld","message":"Idempotency-Key:`)
	if c := f.connect(body, "Idempotency-Key", "once-2"); c.BackendID == first.BackendID {
		t.Error("another Idempotency-Key gave the same backend")
	}
	want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"`+first.BackendID+`"}`), 200, "")
	f.await(first.BackendID, messages.Terminated)
	want(t, f.ask("POST", "/v1/connect", body, "Idempotency-Key", "once-1"), 409, `"kind":"BackendExists","message":"Idempotency-Key:`)

	keyed := `{"key":{"name":"once-doc"},` + spawn + `}`
	second := f.connect(keyed, "Idempotency-Key", "once-3")
	want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"`+second.BackendID+`","hard":true}`), 200, "")
	f.await(second.BackendID, messages.Terminated)
	want(t, f.ask("POST", "/v1/connect", keyed, "Idempotency-Key", "once-3"), 409, `"kind":"BackendExists"`)
	want(t, f.ask("POST", "/v1/connect", keyed, "Idempotency-Key", "once-4"), 200, `"spawned":true`)
}

// wait=ready answers when the backend is ready, or says why it never will be.
func TestConnectWaitsUntilReady(t *testing.T) {
	t.Parallel()
	f := start(t)
	if c := into[gateway.Connected](t, f.ask("POST", "/v1/connect?wait=ready", `{"key":{"name":"wait-1"},`+spawn+`}`)); c.Status != messages.Ready {
		t.Errorf("waited, and it is %+v", c)
	}
	if c := into[gateway.Connected](t, f.ask("POST", "/v1/connect?wait=ready", `{"key":{"name":"wait-1"}}`)); c.Status != messages.Ready || c.Spawned {
		t.Errorf("joined, and it is %+v", c)
	}
	c := into[gateway.Connected](t, f.ask("POST", "/v1/connect?wait=ready", `{"spawn_config":{"executable":{"fake":{"start_error":"exec format error"}}}}`))
	if c.Status != messages.Terminated || c.Ended == nil || c.Ended.Reason != messages.ReasonStartFailed || !strings.Contains(c.Ended.Message, "exec format error") {
		t.Errorf("of one that cannot start: %+v %+v", c, c.Ended)
	}
	// One that takes longer than is waited is granted all the same.
	c = into[gateway.Connected](t, f.ask("POST", "/v1/connect?wait=ready", `{"spawn_config":{"executable":{"fake":{"prepare_for":"1h"}}}}`, "Jetway-Timeout", "2s"))
	if c.Status >= messages.Ready || c.URL == "" {
		t.Errorf("of one that takes long: %+v", c)
	}
	want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"`+c.BackendID+`","hard":true}`), 200, "")
	want(t, f.ask("POST", "/v1/connect?wait=forever", `{}`), 400, "wait: must be ready")
}

// Errors come as the bus has them, or as RFC 9457 has them where that is asked for, and say when to ask again.
func TestErrorsSayWhatAndWhenToAskAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	refuse := func(subject string, kind messages.Kind) {
		_, err := nc.Subscribe(subject, func(m *nats.Msg) {
			e := messages.Errorf(kind, "because")
			e.ID = "the-id"
			answer := nats.NewMsg(m.Reply)
			answer.Header.Set(messages.HeaderError, e.Message)
			answer.Header.Set(messages.HeaderErrorCode, e.CodeString())
			answer.Data = messages.Encode(e)
			_ = m.RespondMsg(answer)
		})
		must(t, err)
	}
	refuse(messages.SubjectConnect, messages.Overloaded)
	refuse(messages.SubjectTerminate, messages.Internal)
	must(t, nc.FlushWithContext(testkit.Context(t)))
	f := startOn(t, nc.ConnectedUrl())

	got := f.ask("POST", "/v1/connect", `{}`)
	want(t, got, 503, `^\{"id":"the-id","kind":"Overloaded","message":"because"\}$`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
	want(t, f.ask("POST", "/ctrl/connect", `{}`), 503, `"kind":"Overloaded"`)
	got = f.ask("POST", "/v1/connect", `{}`, "Accept", "application/problem+json")
	want(t, got, 503, `^\{"type":"urn:jetway:error:Overloaded","title":"overloaded","status":503,"detail":"because","kind":"Overloaded","id":"the-id"\}$`)
	if got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("Content-Type is %q", got.header.Get("Content-Type"))
	}
	want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"b"}`), 500, `"kind":"Internal"`)
	want(t, f.ask("POST", "/ctrl/b/b/soft-terminate", ``), 500, `"kind":"Other"`)
	got = f.ask("GET", "/v1/backends", "")
	want(t, got, 503, `"kind":"Unavailable","message":"no worker answers`)
	if got.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
	want(t, f.ask("GET", "/v1/nothing", ""), 404, `"kind":"NotFound"`)
	got = f.ask("DELETE", "/v1/backends", "")
	want(t, got, 405, `"kind":"MethodNotAllowed"`)
	if got.header.Get("Allow") != "GET,HEAD" {
		t.Errorf("Allow is %q", got.header.Get("Allow"))
	}
	want(t, f.ask("GET", "/readyz", ""), 503, "not ready: ")
	want(t, f.ask("GET", "/healthz", ""), 200, "alive")
	want(t, f.ask("GET", "/metrics", ""), 200, `jetway_gateway_requests_total\{route="POST /v1/connect",status="503"\} 2`)
	want(t, f.ask("GET", "/pub/health", ""), 500, `"kind":"Other"`)
}

// Bad bodies and heads are refused, in their own words, and reach no worker.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		want       string
	}{
		{"/v1/connect", `[`, nil, 400, "BadRequest"},
		{"/v1/connect", `{"key":{"name":""}}`, nil, 400, "key.name"},
		{"/v1/connect", `{"key":{"name":"a\u0000b"}}`, nil, 400, "key.name"},
		{"/v1/connect", `{}`, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"/v1/connect", `{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"/v1/connect", "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, "Content-Encoding"},
		{"/v1/connect", `{"user":"` + strings.Repeat("x", messages.MaxPayload) + `"}`, nil, 413, "TooLarge"},
		{"/v1/connect", `{}`, []string{"Jetway-Timeout", "soon"}, 400, "Jetway-Timeout"},
		{"/v1/connect", `{}`, []string{"Jetway-Timeout", "-1s"}, 400, "Jetway-Timeout"},
		{"/v1/connect", `{}`, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, "Idempotency-Key"},
		{"/v1/connect", `{}`, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		{"/v1/terminate", `{"backend_id":"../x"}`, nil, 400, "backend_id"},
		{"/v1/drain", `{"drone":"px-1"}`, nil, 400, "drone"},
		{"/v1/status", `{}`, nil, 400, "backend_id"},
	} {
		want(t, f.ask("POST", c.path, c.body, c.headers...), c.status, c.want)
	}
	for path, status := range map[string]int{
		"/v1/backends?limit=x": 400, "/v1/backends?limit=0": 400, "/v1/backends?limit=201": 400, "/v1/backends?all=maybe": 400, "/v1/backends?after=A": 400,
		"/v1/backends?drone=x": 400, "/v1/backends/UPPER": 404, "/v1/backends/none/logs?tail=5": 404, "/v1/backends/none/events": 404,
	} {
		want(t, f.ask("GET", path, ""), status, "kind")
	}
	// A page of another site that has got itself a name for this machine.
	r := f.request("GET", "/v1/backends", "")
	r.Host = "evil.example:" + r.URL.Port()
	resp, err := f.http.Do(r)
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %s", resp.Status)
	}
}

// Who sends his head or body slowly, or not at all, is not waited for.
func TestI8SlowHeadsAndBodiesAreCut(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *gateway.Config) { c.Slow(200*time.Millisecond, testkit.Patience) })
	if got := f.raw("POST /v1/connect HTTP/1.1\r\nHost: loc"); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
		t.Errorf("half a head is answered with %q", got)
	}
	f.rawUntil("POST /v1/connect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{", "HTTP/1.1 408 ")
	long := "GET /v1/backends HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"
	f.rawUntil(long, "HTTP/1.1 431 ")
	// Two lengths, or a length and chunks: whoever is in front may have read another request.
	for _, heads := range []string{"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "Content-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n\r\n{}"} {
		f.rawUntil("POST /v1/connect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+heads, "HTTP/1.1 400 ", "HTTP/1.1 501 ")
	}
}
