package worker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// said is a message as an earlier build says it, with some fields set.
func said(t *testing.T, folder, name string, set ...any) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name+".json"))
	must(t, err)
	message := as[map[string]any](t, data)
	for i := 0; i < len(set); i += 2 {
		at := message
		path := strings.Split(set[i].(string), ".")
		for _, field := range path[:len(path)-1] {
			at = at[field].(map[string]any)
		}
		at[path[len(path)-1]] = set[i+1]
	}
	return message
}

// answer is a reply or a message as somebody reads it who knows its fields only.
type answer struct {
	t    *testing.T
	what string
	v    map[string]any
}

// field gives one, which must be there.
func (a answer) field(path string) (v any) {
	a.t.Helper()
	v = a.v
	for field := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok || object[field] == nil {
			a.t.Fatalf("%s has no %s: %v", a.what, path, a.v)
		}
		v = object[field]
	}
	return v
}

// has wants fields, each with a value; nil: any.
func (a answer) has(fields ...any) answer {
	a.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		if v := a.field(fields[i].(string)); fields[i+1] != nil && v != fields[i+1] {
			a.t.Errorf("%s of %s is %v, not %v", fields[i], a.what, v, fields[i+1])
		}
	}
	return a
}

// A drone, a proxy and a web tier of each earlier build that may be mixed with this one live a whole life with its workers,
// in the very words of that build.
func TestPeersOfEarlierBuildsAreServed(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob("../../messages/testdata/peers/*")
	must(t, err)
	if len(folders) == 0 {
		t.Fatal("there are no messages of earlier builds")
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			lifeInWordsOf(t, folder)
		})
	}
}

func lifeInWordsOf(t *testing.T, folder string) {
	t.Helper()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	ask := func(subject, name string, set ...any) answer {
		t.Helper()
		data, refusal := w.ask(subject, messages.Encode(said(t, folder, name, set...)))
		if refusal != nil {
			t.Fatalf("%s: %v", name, refusal)
		}
		return answer{t, "the answer to " + name, as[map[string]any](t, data)}
	}
	actions := make(chan *nats.Msg, 100)
	_, err := natstest.Conn(t, w.url).Subscribe("_INBOX.dr-a.actions", func(msg *nats.Msg) {
		if msg.Header.Get("Status") == "" {
			actions <- msg
			_ = msg.Ack()
		}
	})
	must(t, err)
	// An action may come again until a report shows that it was taken.
	action := func(id string) answer {
		t.Helper()
		for {
			msg := testkit.Receive(t, actions, "the action "+id)
			if a := as[map[string]any](t, msg.Data); a["id"] == id {
				return answer{t, "the action " + id, a}
			}
		}
	}
	deadlines := []any{"deadlines.renew_at_ms", nil, "deadlines.soft_terminate_at_ms", nil, "deadlines.hard_terminate_at_ms", nil}

	registered := ask("jetway.drone.dr-a.register", "register_request", "cluster", cluster)
	registered.has(deadlines...).has("stream", "JETWAY_ACTIONS", "consumer", "dr-a", "heartbeat_interval_ms", nil)
	if lost, _ := registered.v["lost"].([]any); len(lost) != 1 || lost[0] != "b" {
		t.Errorf("of a backend that is not the drone's it is said %v", registered.v)
	}
	ask("jetway.drone.dr-a.heartbeat", "heartbeat_request").has(deadlines...)

	granted := ask("jetway.ctl.connect", "connect_request", "spawn_config.cluster", cluster).
		has("backend_id", "my-backend", "spawned", true, "status", "scheduled", "token", nil, "url", nil, "subdomain", "doc", "drone", "dr-a")
	spawn := action("my-backend.spawn").has("type", "io.jetway.action.v1.spawn", "backend_id", "my-backend", "time", nil, "spawn.session", "s1",
		"spawn.key.name", "doc-1", "spawn.key.namespace", "team", "spawn.key.tag", "v2", "spawn.fencing_token", nil,
		"spawn.static_token", granted.field("token"), "spawn.executable.command", nil, "spawn.executable.env.K", "V")
	answer{t, "the spawn", spawn.field("spawn").(map[string]any)}.has(deadlines...)

	// What the drone says is the first report of its message, a waiting backend, and the second, one that has ended.
	reports := said(t, folder, "report_request")["reports"].([]any)
	report := func(i int) {
		t.Helper()
		r := reports[i].(map[string]any)
		r["backend_id"] = "my-backend"
		ask("jetway.drone.dr-a.report", "report_request", "reports", []any{r})
	}
	report(0)
	route := func(token any) answer {
		t.Helper()
		return ask("jetway.proxy.px-a.route", "route_request", "token", token).has("backend_id", "my-backend", "status", "waiting", "address", "127.0.0.1:8080",
			"cluster", cluster, "subdomain", "doc")
	}
	route(granted.field("token"))
	ask("jetway.proxy.px-a.keepalive", "keepalive_request", "backends", []any{"my-backend", "b"})
	ask("jetway.ctl.status", "status_request", "backend_id", "my-backend").has("backend_id", "my-backend", "key.name", "doc-1", "cluster", cluster, "pool", "gpu",
		"drone", "dr-a", "fencing_token", spawn.field("spawn.fencing_token"), "created_at", nil, "changed_at", nil, "status", "waiting", "number", 40.0)
	for _, list := range []string{"backends", "drones"} {
		rows := ask("jetway.ctl."+list, list+"_request", "after", "").field(list).([]any)
		answer{t, "a row of " + list, rows[0].(map[string]any)}.has("drone", "dr-a", "pool", "gpu", "cluster", cluster)
	}

	// The next life of the key is in a backend whose tokens are a user's.
	ask("jetway.ctl.terminate", "terminate_request", "backend_id", "my-backend")
	action("my-backend.terminate-hard").has("type", "io.jetway.action.v1.terminate", "backend_id", "my-backend", "terminate.hard", true, "terminate.reason", "external")
	report(1)
	ask("jetway.ctl.status", "status_request", "backend_id", "my-backend").has("status", "terminated", "number", 70.0, "last_status", "waiting",
		"termination_kind", "soft", "termination_reason", "external", "message", "asked", "exit_code", 3.0)
	granted = ask("jetway.ctl.connect", "connect_request", "spawn_config.cluster", cluster, "spawn_config.id", "another", "spawn_config.use_static_token", false,
		"user", "ada", "auth", map[string]any{"role": "editor"}).
		has("backend_id", "another", "spawned", true, "token", nil, "secret_token", nil)
	again := action("another.spawn")
	if a, b := spawn.field("spawn.fencing_token").(float64), again.field("spawn.fencing_token").(float64); b <= a {
		t.Errorf("the fencing token %v comes after %v", b, a)
	}
	ask("jetway.proxy.px-a.route", "route_request", "token", granted.field("token")).has("backend_id", "another", "status", "scheduled", "user", "ada",
		"auth.role", "editor", "secret_token", granted.field("secret_token"), "valid_for_ms", nil)
	ask("jetway.ctl.revoke", "revoke_request", "backend_id", "another", "token", granted.field("token")).has("revoked", 1.0)
	ask("jetway.ctl.drain", "drain_request").has("backends", 1.0)
	ask("jetway.drone.dr-a.heartbeat", "heartbeat_request").has("draining", true)
	if _, refusal := w.ask("jetway.ctl.connect", messages.Encode(said(t, folder, "connect_request", "key.name", "third", "spawn_config.cluster", cluster))); refusal == nil ||
		refusal.Kind != "BackendExists" && refusal.Kind != "NoDroneAvailable" {
		t.Errorf("a drone that is drained is given backends: %v", refusal)
	}

	js, err := jetstream.New(w.nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), "JETWAY_EVENTS")
	must(t, err)
	for subject, fields := range map[string][]any{
		"jetway.event.backend.my-backend": {
			"type", "io.jetway.backend.v1.state", "id", "my-backend.70", "time", nil, "backend_id", "my-backend", "number", 70.0,
			"status", "terminated", "last_status", "waiting", "termination_kind", "soft", "termination_reason", "external", "message", "asked", "exit_code", 3.0,
		},
		"jetway.event.token.another": {"type", "io.jetway.token.v1.revoked", "id", nil, "time", nil, "backend_id", "another", "user", "ada", "token_sha256", nil},
		"jetway.event.drone.dr-a":    {"type", "io.jetway.drone.v1.draining", "id", nil, "time", nil, "drone", "dr-a", "session", "s1", "cluster", cluster, "pool", "gpu"},
	} {
		var msg *jetstream.RawStreamMsg
		testkit.Eventually(t, "there is an event of "+subject, func() bool {
			msg, err = stream.GetLastMsgForSubject(t.Context(), subject)
			return err == nil
		})
		var event map[string]any
		must(t, json.Unmarshal(msg.Data, &event))
		answer{t, subject, event}.has(fields...)
		if msg.Header.Get("Nats-Msg-Id") != event["id"] {
			t.Errorf("%s has the id %s", subject, msg.Header.Get("Nats-Msg-Id"))
		}
	}
}
