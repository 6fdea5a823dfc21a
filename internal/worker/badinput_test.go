package worker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// badInput is what every subject is sent, by what is wrong with it.
type badInput struct{ what, subject, payload string }

// badEverywhere cannot be right on any subject.
func badEverywhere() (all []badInput) {
	for _, subject := range []string{
		messages.SubjectConnect, messages.SubjectTerminate, messages.SubjectStatus, messages.SubjectBackends, messages.SubjectDrones,
		messages.SubjectRevoke, messages.SubjectDrain, messages.SubjectUndrain,
		messages.RegisterSubject("dr-a"), messages.HeartbeatSubject("dr-a"), messages.ReportSubject("dr-a"),
		messages.RouteSubject("px-a"), messages.KeepaliveSubject("px-a"),
	} {
		for what, payload := range map[string]string{
			"not JSON":        `{"backend_id":`,
			"two values":      `{} {}`,
			"a list":          `[]`,
			"a string":        `"jetway"`,
			"a number":        `-1e999`,
			"not UTF-8":       "{\"backend_id\":\"\xff\xfe\"}",
			"a bare NUL":      "\x00",
			"1 MiB":           `{"backend_id":"` + strings.Repeat("x", 1<<20-17) + `"}`,
			"1 MiB of spaces": strings.Repeat(" ", 1<<20),
			"deep":            strings.Repeat(`{"key":`, 20000),
		} {
			all = append(all, badInput{what, subject, payload})
		}
	}
	return all
}

// badFields are wrong in one field each.
func badFields() (all []badInput) {
	add := func(subject, format string, values ...string) {
		for _, v := range values {
			all = append(all, badInput{"the field " + fmt.Sprintf("%.60s", v), subject, fmt.Sprintf(format, v)})
		}
	}
	wrongID := []string{`""`, `"a.b"`, `"a b"`, `"*"`, `">"`, `"a\u0000"`, `"A"`, `"ä"`, `"a\n"`, `1`, `-1`, `{}`, `true`, `"` + strings.Repeat("a", 46) + `"`}
	optionalID := wrongID[1:] // "" is as if it were not there
	wrongText := []string{`"a\u0000b"`, `"a\nb"`, `"\u0085"`, `1`, `[]`, `{}`, `"` + strings.Repeat("ä", 128) + `"`}
	wrongLimit := []string{`0`, `-1`, `-9223372036854775808`, `9223372036854775807`, `1e400`, `99999999999999999999999`, `1.5`, `"60"`, `{}`}
	wrongSubdomain := []string{`"-a"`, `"a-"`, `"a.b"`, `"A"`, `"*"`, `">"`, `"a b"`, `"a\u0000"`, `"` + strings.Repeat("a", 64) + `"`, `1`}
	wrongCluster := []string{`"a b"`, `"*"`, `">"`, `"a:0"`, `"a:99999"`, `"a/b"`, `"a\u0000"`, `"http://a"`, `7`, `"` + strings.Repeat("a.", 200) + `"`}

	add(messages.SubjectConnect, `{"key":{"name":%s},"spawn_config":{"executable":{}}}`, append([]string{`""`}, wrongText...)...)
	add(messages.SubjectConnect, `{"key":{"name":"n","namespace":%s},"spawn_config":{"executable":{}}}`, wrongText...)
	add(messages.SubjectConnect, `{"key":{"name":"n","tag":%s},"spawn_config":{"executable":{}}}`, wrongText...)
	add(messages.SubjectConnect, `{"key":%s,"spawn_config":{"executable":{}}}`, `{}`, `[]`, `"n"`, `1`)
	add(messages.SubjectConnect, `{"key":{"name":"n"},"spawn_config":%s}`, `{}`, `[]`, `"x"`, `1`, `{"executable":null}`, `{"executable":[]}`, `{"executable":"room"}`)
	add(messages.SubjectConnect, `{"user":%s,"key":{"name":"n"},"spawn_config":{"executable":{}}}`, wrongText...)
	add(messages.SubjectConnect, `{"auth":%s,"key":{"name":"n"},"spawn_config":{"executable":{}}}`, `[]`, `1`, `"x"`, `{"a":"`+strings.Repeat("x", 64<<10)+`"}`)
	add(messages.SubjectConnect, `{"key":{"name":"n"},"spawn_config":{"executable":%s}}`, `{"a":"`+strings.Repeat("x", 256<<10)+`"}`)
	for field, values := range map[string][]string{
		"id": optionalID, "pool": wrongText, "cluster": wrongCluster, "subdomain": wrongSubdomain,
		"lifetime_limit_seconds": wrongLimit, "max_idle_seconds": wrongLimit, "use_static_token": {`1`, `"true"`, `{}`}, "origin": {`1`, `"true"`, `{}`},
	} {
		add(messages.SubjectConnect, `{"key":{"name":"n"},"spawn_config":{"executable":{},"`+field+`":%s}}`, values...)
	}

	add(messages.SubjectTerminate, `{"backend_id":%s}`, wrongID...)
	add(messages.SubjectTerminate, `{"backend_id":"held-1","hard":%s}`, `1`, `"yes"`)
	add(messages.SubjectStatus, `{"backend_id":%s}`, wrongID...)
	add(messages.SubjectRevoke, `{"user":"u","backend_id":%s}`, wrongID...)
	add(messages.SubjectRevoke, `{"backend_id":"held-1","user":%s}`, append([]string{`null`}, wrongText...)...)
	add(messages.SubjectRevoke, `{"backend_id":"held-1","token":%s}`, `""`, `"s.static"`, `"a\u0000"`, `1`, `"`+strings.Repeat("a", 65)+`"`)
	for _, subject := range []string{messages.SubjectDrain, messages.SubjectUndrain} {
		add(subject, `{"drone":%s}`, append([]string{`"dr-"`, `"px-a"`}, wrongID...)...)
	}
	add(messages.SubjectBackends, `{"drone":%s}`, optionalID...)
	for _, subject := range []string{messages.SubjectBackends, messages.SubjectDrones} {
		add(subject, `{"after":%s}`, optionalID...)
		add(subject, `{"limit":%s}`, `-1`, `201`, `1e30`, `"1"`)
	}

	add(messages.RegisterSubject("dr-a"), `{"cluster":"c","session":%s}`, wrongID...)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":%s}`, append([]string{`""`}, wrongCluster...)...)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":"c","pool":%s}`, wrongText...)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":"c","version":%s}`, wrongText...)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":"c","max_backends":%s}`, `-1`, `1000000001`, `1e300`)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":"c","drone_time_ms":%s}`, `-1`, `9223372036854775807`, `1e300`)
	add(messages.RegisterSubject("dr-a"), `{"session":"s","cluster":"c","backends":[%s]}`, wrongID...)
	add(messages.HeartbeatSubject("dr-a"), `{"session":%s}`, wrongID...)
	add(messages.HeartbeatSubject("dr-a"), `{"session":"s-dr-a","drone_time_ms":%s}`, `-1`, `9223372036854775807`, `1e300`)
	add(messages.HeartbeatSubject("dr-a"), `{"session":"s-dr-a","load":{"backends":%s}}`, `-1`, `1000000001`, `"1"`)
	add(messages.HeartbeatSubject("dr-a"), `{"session":"s-dr-a","ready":true,"load":{"backends":%s}}`, `-1`, `"a"`, `1.5`, `1e10`)
	add(messages.ReportSubject("dr-a"), `{"session":"s-dr-a","reports":%s}`, `[]`, `null`, `{}`, `[1]`, `[{}]`,
		`[{"backend_id":"held-1"}]`, `[{"backend_id":"held-1","status":"dead"}]`, `[{"backend_id":"held-1","status":70}]`,
		`[{"backend_id":"held-1","status":"scheduled"}]`,
		`[{"backend_id":"held-1","status":"waiting","address":"nowhere"}]`, `[{"backend_id":"held-1","status":"waiting","address":"a\u0000:1"}]`,
		`[{"backend_id":"held-1","status":"waiting","address":"a:0"}]`, `[{"backend_id":"held-1","status":"waiting","address":"a:70000"}]`,
		`[{"backend_id":"held-1","status":"terminated","termination_reason":"boredom"}]`, `[{"backend_id":"held-1","status":"terminated","termination_kind":"gentle"}]`,
		`[{"backend_id":"held-1","status":"terminated","exit_code":1e300}]`, `[{"backend_id":"held-1","status":"terminated","exit_code":99999999999}]`,
		`[{"backend_id":"held-1","status":"terminated","message":"`+strings.Repeat("x", 4097)+`"}]`,
		`[{"backend_id":"held-1","status":"terminated","message":"a\u0000b"}]`,
		`[{"backend_id":"held-1","status":"ready","address":"a:1"}`+strings.Repeat(`,{"backend_id":"held-1","status":"ready"}`, 1000)+`]`)
	add(messages.ReportSubject("dr-a"), `{"session":"s-dr-a","reports":[{"backend_id":%s,"status":"terminated"}]}`, wrongID...)

	add(messages.RouteSubject("px-a"), `{"token":%s}`, `""`, `1`, `{}`, `"a\u0000"`, `"a\nb"`, `"s.\u0000"`, `"`+strings.Repeat("a", 65)+`"`)
	add(messages.KeepaliveSubject("px-a"), `{"backends":%s}`, `{}`, `"a"`, `[1]`, `[""]`, `["a.b"]`, `["*"]`, `["a\u0000"]`)
	add(messages.KeepaliveSubject("px-a"), `{"backends":["a"%s]}`, strings.Repeat(`,"a"`, 8000))
	add(messages.KeepaliveSubject("px-a"), `{"backends":["a"],"idle_ms":%s}`, `[-1]`, `[86400001]`, `[0,0]`, `["1"]`, `[1.5]`, `1`)

	// Senders that are none; a wildcard must not become part of a subject.
	for _, name := range []string{"a", "dr-", "px-", "wo-a", "dr-A", "px-A", "*", ">", "dr-*", "px->", "dr-ä", "dr-" + strings.Repeat("a", 43)} {
		add(messages.RegisterSubject(name), `{"session":"s","cluster":%s}`, `"c"`)
		add(messages.HeartbeatSubject(name), `{"session":%s}`, `"s-dr-a"`)
		add(messages.ReportSubject(name), `{"session":"s-dr-a","reports":[{"backend_id":"held-1","status":%s}]}`, `"terminated"`)
		add(messages.RouteSubject(name), `{"token":%s}`, `"t"`)
		add(messages.KeepaliveSubject(name), `{"backends":[%s]}`, `"held-1"`)
	}
	return all
}

func TestI7BadInputGetsOneBadRequestAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	r := spawnKey("held")
	r.SpawnConfig.ID = "held-1"
	w.connect(r)
	p.report("held-1", messages.Loading)
	consumers := streamConsumers(t, w)
	w.settled(0)
	before := w.contents()

	for _, c := range append(badEverywhere(), badFields()...) {
		payload := c.payload
		// An empty payload is an empty object: right where nothing is required.
		_, refusal := w.ask(c.subject, payload)
		if refusal == nil || refusal.Kind != messages.BadRequest {
			t.Errorf("%s, %s: %v (%.120q)", c.subject, c.what, refusal, payload)
		}
	}
	for _, timeout := range []string{"5", "1us", "999us", "-1s", "0s", "soon", "1s\x00", "999999999999h", strings.Repeat("1", 4000)} {
		for _, subject := range []string{messages.SubjectConnect, messages.HeartbeatSubject("dr-a"), messages.RouteSubject("px-a"), messages.SubjectDrones} {
			_, refusal := w.await(w.send(subject, encode(spawnKey("n")), nats.Header{"Jetway-Timeout": {timeout}}))
			if refusal == nil || refusal.Kind != messages.BadRequest {
				t.Errorf("%s with the timeout %.40q: %v", subject, timeout, refusal)
			}
		}
	}
	if after := w.contents(); after != before {
		t.Errorf("bad input changed\n%s\nto\n%s", before, after)
	}
	if after := streamConsumers(t, w); after != consumers {
		t.Errorf("bad input changed the consumers from %d to %d", consumers, after)
	}
	if events := numbers(t, w, "held-1"); len(events) != 2 {
		t.Errorf("bad input published: %v", events)
	}
	if resp := w.connect(spawnKey("held")); resp.BackendID != "held-1" {
		t.Errorf("afterwards the key is with %s", resp.BackendID)
	}
}

// What is odd but allowed is kept as it came, and is no database error.
func TestI7OddInputIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	data, refusal := w.ask(messages.SubjectConnect, `{"key":{"name":"a.b > * 日本 'x\" \\ <&>","namespace":"%s; drop table lease"},"unknown":[1],
		"user":"o'brien","auth":{"nul":"\u0000","both":"\ud83d\ude00"},"spawn_config":{"executable":{"nul":"\u0000"},"more":{}}}`)
	if refusal != nil {
		t.Fatal(refusal)
	}
	resp := as[messages.ConnectResponse](t, data)
	route, ok := w.route(resp.Token)
	if !ok || route.User != "o'brien" || string(route.Auth) != `{"nul":"\u0000","both":"\ud83d\ude00"}` {
		t.Errorf("the route is %+v, auth %s", route, route.Auth)
	}
	if info := w.status(resp.BackendID); info.Key.Name != `a.b > * 日本 'x" \ <&>` || info.Key.Namespace != "%s; drop table lease" {
		t.Errorf("the key is %+v", info.Key)
	}
}

func streamConsumers(t *testing.T, w *world) int {
	t.Helper()
	data, err := w.nc.Request("$JS.API.STREAM.INFO."+messages.StreamActions, nil, testkit.Patience)
	must(t, err)
	return as[struct {
		State struct {
			Consumers int `json:"consumer_count"`
		} `json:"state"`
	}](t, data.Data).State.Consumers
}
