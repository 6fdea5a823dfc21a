package messages_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

func init() {
	until, month := at.Add(30*24*time.Hour), int64(30*24*3600)
	scheduled, terminated := messages.NewStateEvent("b", at, messages.State{Status: messages.Scheduled}), messages.NewStateEvent("b", at, messages.State{Status: messages.Terminated, LastStatus: messages.Ready})
	scheduled.Resumes, terminated.DormantUntil = "a", &until
	maps.Copy(golden, map[string]any{
		"connect_request_resume": &messages.ConnectRequest{
			Key:         &messages.Key{Name: "doc-1"},
			SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(`{"command":["room"]}`), UseStaticToken: true, ResumeSeconds: &month, MaxIdleSeconds: &seconds},
		},
		"connect_response_resumed": &messages.ConnectResponse{
			BackendID: "b", Spawned: true, Status: messages.Scheduled, Token: "s.t", URL: "http://localhost:9090/s.t/", Drone: "dr-a", Resumes: "a",
		},
		"terminate_request_forget": &messages.TerminateRequest{Key: &messages.Key{Name: "doc-1"}, Forget: true},
		"event_resumes":            &scheduled,
		"event_dormant":            &terminated,
		"route_request_open":       &messages.RouteRequest{Token: "s.t", Open: true},
		"keys_request": &messages.KeysRequest{
			Namespace: new(string), Prefix: "doc-", Search: "1", States: []messages.KeyState{messages.KeyDormant}, After: &messages.Key{Name: "doc-0"}, Limit: 10,
		},
		"keys_response": &messages.KeysResponse{Keys: []messages.KeyInfo{
			{Key: messages.Key{Name: "doc-1"}, State: messages.KeyDormant, BackendID: "b", Status: messages.Terminated, Drone: "dr-a", Since: at, ResumeSeconds: &month, DormantUntil: &until},
			{
				Key: messages.Key{Name: "doc-2", Namespace: "team", Tag: "v2"}, State: messages.KeyBackingOff, BackendID: "c", Status: messages.Terminated, Since: at,
				Crashes: &messages.Crashes{InARow: 3, LastWords: "exit code 1", RetryAfterMS: 900},
			},
		}, Next: &messages.Key{Name: "doc-2", Namespace: "team"}},
	})
	decoders = append(
		decoders,
		decoder{"connect_request_resume", decoderOf(messages.Decode[messages.ConnectRequest])},
		decoder{"terminate_request_forget", decoderOf(messages.Decode[messages.TerminateRequest])},
		decoder{"event_resumes", decoderOf(messages.Decode[messages.StateEvent])},
		decoder{"event_dormant", decoderOf(messages.Decode[messages.StateEvent])},
		decoder{"route_request_open", decoderOf(messages.Decode[messages.RouteRequest])},
		decoder{"keys_request", decoderOf(messages.Decode[messages.KeysRequest])},
	)
}

// The demand: bad input of resume and of listings of keys gets BadRequest, and the message says what is wrong and what to do.
func TestBadResumeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	connect, keys, terminate := decoderOf(messages.Decode[messages.ConnectRequest]), decoderOf(messages.Decode[messages.KeysRequest]), decoderOf(messages.Decode[messages.TerminateRequest])
	for _, c := range []struct {
		decode     func([]byte) error
		text, says string
	}{
		{connect, `{"spawn_config":{"executable":{},"use_static_token":true,"resume_seconds":5}}`, "spawn_config.resume_seconds: needs a key"},
		{connect, `{"key":{"name":"k"},"spawn_config":{"executable":{},"resume_seconds":5}}`, "Set it, or leave resume_seconds out"},
		{connect, `{"key":{"name":"k"},"spawn_config":{"executable":{},"use_static_token":true,"resume_seconds":-1}}`, "spawn_config.resume_seconds: must be 1 to"},
		{keys, `{"states":["dead"]}`, `"dead" is none: there are live, asleep, dormant and backing-off`},
		{keys, `{"states":["live","live","live","live","live"]}`, "states: are 5"},
		{keys, `{"limit":201}`, "limit"},
		{keys, `{"after":{"name":""}}`, "after: must be a key"},
		{keys, `{"search":"\u0000"}`, "search"},
		{terminate, `{"forget":true}`, "backend_id"},
		{terminate, `{"backend_id":"b","key":{"name":"k"}}`, "key: must be left out where backend_id is given"},
		{terminate, `{"key":{"name":""}}`, "key.name"},
	} {
		err := c.decode([]byte(c.text))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}
