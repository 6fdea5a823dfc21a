package messages_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func init() {
	template := messages.Template{
		Name: "room", Cluster: "localhost:9090", Pool: "gpu", Executable: json.RawMessage(`{"command":["room"]}`),
		LifetimeLimitSeconds: &seconds, MaxIdleSeconds: &seconds, Spares: 4, ClaimPath: "/claim", Revision: 12,
	}
	spares := messages.SpareState{
		Template: "room", Revision: 12, Ready: 3, Starting: 1, Claims: 40, Misses: 2, Error: "exit status 1 before it listened",
	}
	maps.Copy(golden, map[string]any{
		"connect_request_template": &messages.ConnectRequest{
			Key: &messages.Key{Name: "doc-1"}, SpawnConfig: &messages.SpawnConfig{ID: "my-backend", Template: "room"},
		},
		"action_spawn_template": &messages.Action{
			Type: messages.TypeSpawn, ID: messages.SpawnID("b"), Time: at, BackendID: "b",
			Spawn: &messages.Spawn{
				Session: "s1", Key: messages.Key{Name: "doc-1"}, FencingToken: 7,
				Deadlines:  messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 2, HardTerminateAtMS: 3},
				Executable: json.RawMessage(`{"command":["room"]}`), Template: &messages.SpawnTemplate{Name: "room", Revision: 12, ClaimPath: "/claim"},
			},
		},
		"heartbeat_request_spares": &messages.HeartbeatRequest{
			Session: "s1", DroneTimeMS: 5000, Ready: true, Load: messages.Load{Backends: 1}, Spares: []messages.SpareState{spares},
		},
		"heartbeat_response_templates": &messages.HeartbeatResponse{
			TemplatesRevision: 12,
			Renewal:           messages.Renewal{Deadlines: messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 2, HardTerminateAtMS: 3}},
		},
		"templates_request":      &messages.TemplatesRequest{Session: "s1"},
		"templates_response":     &messages.TemplatesResponse{Revision: 12, Templates: []messages.Template{template}},
		"template_put":           &template,
		"template_put_response":  &messages.PutTemplateResponse{Revision: 12, Replaced: 9, Drones: 3},
		"template_get":           &messages.TemplateRequest{Name: "room"},
		"template_delete":        &messages.TemplateRequest{Name: "room", Revision: 12},
		"template_list":          &messages.ListTemplatesRequest{Page: messages.Page{After: "a", Limit: 10}},
		"template_list_response": &messages.ListTemplatesResponse{Templates: []messages.TemplateInfo{{Template: template, ChangedAt: at}}, Next: "room"},
		"template_get_response": &messages.TemplateInfo{
			Template: template, ChangedAt: at, SparesReady: 3, SparesStarting: 1, Claims: 40, Misses: 2, Error: spares.Error,
			Drones: []messages.TemplateDrone{{Drone: "dr-a", SpareState: spares}}, MoreDrones: true,
		},
	})
	decoders = append(
		decoders,
		decoder{"connect_request_template", decoderOf(messages.Decode[messages.ConnectRequest])},
		decoder{"action_spawn_template", decoderOf(messages.Decode[messages.Action])},
		decoder{"heartbeat_request_spares", decoderOf(messages.Decode[messages.HeartbeatRequest])},
		decoder{"templates_request", decoderOf(messages.Decode[messages.TemplatesRequest])},
		decoder{"template_put", decoderOf(messages.Decode[messages.Template])},
		decoder{"template_get", decoderOf(messages.Decode[messages.TemplateRequest])},
		decoder{"template_delete", decoderOf(messages.Decode[messages.TemplateRequest])},
		decoder{"template_list", decoderOf(messages.Decode[messages.ListTemplatesRequest])},
	)
}

// The demand: a bad template gets BadRequest, and the message names the field. Its executable is looked at as a connect's is.
func TestBadTemplatesNameTheField(t *testing.T) {
	t.Parallel()
	with := func(extra string) string { return `{"name":"room","executable":{}` + extra + `}` }
	put := decoderOf(messages.Decode[messages.Template])
	connect := decoderOf(messages.Decode[messages.ConnectRequest])
	heartbeat := func(spare string) string { return `{"session":"s","drone_time_ms":1,"spares":[` + spare + `]}` }
	for _, c := range []struct {
		decode         func([]byte) error
		payload, field string
	}{
		{put, `{"executable":{}}`, "name"},
		{put, `{"name":"a.b","executable":{}}`, "name"},
		{put, `{"name":">","executable":{}}`, "name"},
		{put, `{"name":"` + strings.Repeat("x", 46) + `","executable":{}}`, "name"},
		{put, `{"name":"room"}`, "executable"},
		{put, `{"name":"room","executable":null}`, "executable"},
		{put, `{"name":"room","executable":[1]}`, "executable"},
		{put, `{"name":"room","executable":{"x":"` + strings.Repeat("y", 256<<10) + `"}}`, "executable"},
		{put, `{"name":"room","executable":{"x":{"y":1,"y":2}}}`, "executable.x.y"},
		{put, `{"name":"room","executable":` + strings.Repeat(`{"x":`, 10001) + `1` + strings.Repeat("}", 10002), "depth"},
		{put, `{"name":"room","executable":{"x":"\ud800"}}`, "executable.x"},
		{put, with(`,"cluster":"a b"`), "cluster"},
		{put, with(`,"pool":"a\u0000"`), "pool"},
		{put, with(`,"spares":-1`), "spares"},
		{put, with(`,"spares":1001,"claim_path":"/c"`), "spares"},
		{put, with(`,"spares":1`), "claim_path"},
		{put, with(`,"claim_path":"claim"`), "claim_path"},
		{put, with(`,"claim_path":"//elsewhere/claim"`), "claim_path"},
		{put, with(`,"claim_path":"http://elsewhere/claim"`), "claim_path"},
		{put, with(`,"claim_path":"/a b"`), "claim_path"},
		{put, with(`,"claim_path":"/a\r\nHost: x"`), "claim_path"},
		{put, with(`,"claim_path":"/%zz"`), "claim_path"},
		{put, with(`,"claim_path":"/` + strings.Repeat("x", 255) + `"`), "claim_path"},
		{put, with(`,"lifetime_limit_seconds":0`), "lifetime_limit_seconds"},
		{put, with(`,"max_idle_seconds":-1`), "max_idle_seconds"},
		{put, with(`,"revision":-1`), "revision"},
		{connect, `{"spawn_config":{}}`, "spawn_config.template"},
		{connect, `{"spawn_config":{"template":"a b"}}`, "spawn_config.template"},
		{connect, `{"spawn_config":{"template":"room","executable":{}}}`, "spawn_config.template"},
		{decoderOf(messages.Decode[messages.HeartbeatRequest]), heartbeat(`{"template":"room","ready":-1}`), "spares[0].ready"},
		{decoderOf(messages.Decode[messages.HeartbeatRequest]), heartbeat(`{"template":"*"}`), "spares[0].template"},
		{decoderOf(messages.Decode[messages.HeartbeatRequest]), heartbeat(`{"template":"room","error":"` + strings.Repeat("x", 257) + `"}`), "spares[0].error"},
		{decoderOf(messages.Decode[messages.HeartbeatRequest]), heartbeat(strings.Repeat(`{"template":"room"},`, 64) + `{"template":"room"}`), "spares"},
	} {
		err := c.decode([]byte(c.payload))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%.80s: got %v, want BadRequest naming %q", c.payload, err, c.field)
		}
	}
	for _, path := range []string{"/", "/claim", "/a/b?x=1", "/caf%C3%A9"} {
		if err := put([]byte(with(`,"spares":1,"claim_path":"` + path + `"`))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
