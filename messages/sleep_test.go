package messages_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func init() {
	asleep, awake := messages.NewSleepEvent("b", at, 3), messages.NewSleepEvent("b", at, 4)
	sleep, wake := messages.NewNapAction("b", at, 3), messages.NewNapAction("b", at, 4)
	maps.Copy(golden, map[string]any{
		"connect_request_sleep": &messages.ConnectRequest{
			Key: &messages.Key{Name: "doc-1"},
			SpawnConfig: &messages.SpawnConfig{
				Executable: json.RawMessage(`{"command":["room"]}`), SleepAfterSeconds: new(int64(30)), SleepIgnoresIdleConnections: true, MaxIdleSeconds: &seconds,
			},
		},
		"register_request_sleeps": &messages.RegisterRequest{
			Session: "s1", MachineID: "m1", BootID: "b1", Cluster: "localhost:9090", Sleeps: true, DroneTimeMS: 5000, Backends: []string{"b"},
		},
		"report_request_nap": &messages.ReportRequest{Session: "s1", Reports: []messages.Report{
			{BackendID: "b", State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 3, Asleep: true, ReclaimedBytes: 64 << 20}},
			{BackendID: "c", State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 5}},
		}},
		"action_sleep": &sleep,
		"action_wake":  &wake,
		"event_asleep": &asleep,
		"event_awake":  &awake,
		"route_response_asleep": &messages.RouteResponse{
			BackendID: "b", Status: messages.Ready, Address: "127.0.0.1:8080", Cluster: "localhost:9090", ValidForMS: 1000, Sleeps: true, Asleep: true, SleepIgnoresIdleConnections: true,
		},
		"keepalive_request_silent": &messages.KeepaliveRequest{Backends: []string{"b", "c"}, IdleMS: []int64{0, 1500}, SilentMS: []int64{42000}},
		"nap_request":              &messages.NapRequest{BackendID: "b"},
		"nap_response":             &messages.NapResponse{Asleep: true, Nap: 3},
		"nap_response_awake":       &messages.NapResponse{Nap: 4},
		"error_cannot_sleep":       &messages.Error{ID: "V1StGXR8", Kind: messages.CannotSleep, Message: "backend b is loading: only what is ready sleeps. Ask again when it is"},
		"status_response_asleep": &messages.BackendInfo{
			BackendID: "b", Key: messages.Key{Name: "doc-1"}, Cluster: "localhost:9090", Drone: "dr-a", FencingToken: 7, CreatedAt: at, ChangedAt: at,
			SleepAfterSeconds: new(int64(30)), SleepIgnoresIdleConnections: true, Nap: messages.Nap{Nap: 3, Asleep: true, ReclaimedBytes: 64 << 20},
			State: messages.State{Status: messages.Ready, Address: "127.0.0.1:8080"}, Number: 50,
		},
	})
	decoders = append(
		decoders,
		decoder{"connect_request_sleep", decoderOf(messages.Decode[messages.ConnectRequest])},
		decoder{"register_request_sleeps", decoderOf(messages.Decode[messages.RegisterRequest])},
		decoder{"report_request_nap", decoderOf(messages.Decode[messages.ReportRequest])},
		decoder{"action_sleep", decoderOf(messages.Decode[messages.Action])},
		decoder{"action_wake", decoderOf(messages.Decode[messages.Action])},
		decoder{"event_asleep", decoderOf(messages.Decode[messages.SleepEvent])},
		decoder{"event_awake", decoderOf(messages.Decode[messages.SleepEvent])},
		decoder{"keepalive_request_silent", decoderOf(messages.Decode[messages.KeepaliveRequest])},
		decoder{"nap_request", decoderOf(messages.Decode[messages.NapRequest])},
	)
}

// The demand: limits out of order and naps that there are not get BadRequest, and the message names the field.
func TestBadSleepNamesTheField(t *testing.T) {
	t.Parallel()
	connect, action := decoderOf(messages.Decode[messages.ConnectRequest]), decoderOf(messages.Decode[messages.Action])
	keepalive := decoderOf(messages.Decode[messages.KeepaliveRequest])
	report, event := decoderOf(messages.Decode[messages.ReportRequest]), decoderOf(messages.Decode[messages.SleepEvent])
	spawn := func(more string) string {
		return `{"key":{"name":"k"},"spawn_config":{"executable":{},` + more + `}}`
	}
	of := func(more string) string {
		return `{"session":"s","reports":[{"backend_id":"b","status":"ready",` + more + `}]}`
	}
	for _, c := range []struct {
		decode         func([]byte) error
		payload, field string
	}{
		{connect, spawn(`"sleep_after_seconds":0`), "spawn_config.sleep_after_seconds"},
		{connect, spawn(`"sleep_after_seconds":-1`), "spawn_config.sleep_after_seconds"},
		{connect, spawn(`"sleep_after_seconds":315360001`), "spawn_config.sleep_after_seconds"},
		{connect, spawn(`"sleep_after_seconds":60,"max_idle_seconds":60`), "ends after max_idle_seconds, which is 60"},
		{connect, spawn(`"sleep_after_seconds":61,"lifetime_limit_seconds":60`), "ends after lifetime_limit_seconds, which is 60"},
		{connect, spawn(`"sleep_ignores_idle_connections":true`), "spawn_config.sleep_ignores_idle_connections"},
		{action, `{"type":"io.jetway.action.v1.sleep","backend_id":"b"}`, "nap"},
		{action, `{"type":"io.jetway.action.v1.sleep","backend_id":"b","nap":2}`, "nap"},
		{action, `{"type":"io.jetway.action.v1.wake","backend_id":"b","nap":1}`, "nap"},
		{action, `{"type":"io.jetway.action.v1.wake","backend_id":"b","nap":-2}`, "nap"},
		{report, of(`"nap":-1`), "reports[0].nap"},
		{report, of(`"nap":2,"asleep":true`), "reports[0].asleep"},
		{report, of(`"asleep":true`), "reports[0].asleep"},
		{report, of(`"nap":1,"reclaimed_bytes":-1`), "reports[0].reclaimed_bytes"},
		{keepalive, `{"backends":["b"],"silent_ms":[-1]}`, "silent_ms"},
		{keepalive, `{"backends":["b"],"silent_ms":[0,1]}`, "silent_ms"},
		{event, `{"type":"io.jetway.backend.v1.awake","backend_id":"b","nap":1}`, "type"},
		{event, `{"type":"io.jetway.backend.v1.awake","backend_id":"b"}`, "type"},
		{event, `{"type":"io.jetway.backend.v1.asleep","backend_id":"b c","nap":1}`, "backend_id"},
	} {
		err := c.decode([]byte(c.payload))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: got %v, want BadRequest naming %q", c.payload, err, c.field)
		}
	}
	if err := connect([]byte(spawn(`"sleep_after_seconds":59,"max_idle_seconds":60,"lifetime_limit_seconds":61`))); err != nil {
		t.Errorf("limits in order: %v", err)
	}
}
