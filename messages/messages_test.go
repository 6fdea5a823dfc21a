package messages_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jetway-project/jetway/messages"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	at      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	seconds = int64(60)
	origin  = true
	exit    = 3
	ended   = messages.State{
		Status: messages.Terminated, LastStatus: messages.Ready, Kind: messages.Soft,
		Reason: messages.ReasonExternal, Message: "asked", ExitCode: &exit,
	}
)

func fenced(e messages.StateEvent) *messages.StateEvent {
	e.FencingToken = 7
	return &e
}

// golden has one example of every payload, all fields set.
var golden = map[string]any{
	"connect_request": &messages.ConnectRequest{
		Key: &messages.Key{Name: "doc-1", Namespace: "team", Tag: "v2"},
		SpawnConfig: &messages.SpawnConfig{
			ID: "my-backend", Cluster: "localhost:9090", Pool: "gpu",
			Executable:           json.RawMessage(`{"command":["room"],"env":{"K":"V"}}`),
			LifetimeLimitSeconds: &seconds, MaxIdleSeconds: &seconds, Subdomain: "doc", Origin: &origin,
		},
		User: "ada", Auth: json.RawMessage(`{"role":"editor"}`), TokenLifetimeSeconds: &seconds,
	},
	"connect_request_static": &messages.ConnectRequest{
		Key:         &messages.Key{Name: "doc-1"},
		SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(`{"command":["room"]}`), UseStaticToken: true},
	},
	"connect_response": &messages.ConnectResponse{
		BackendID: "my-backend", Spawned: true, Status: messages.Scheduled, Token: "T",
		URL: "http://doc.localhost:9090/T/", Subdomain: "doc", SecretToken: "S", Drone: "dr-a",
	},
	"connect_response_joined": &messages.ConnectResponse{
		BackendID: "my-backend", Status: messages.Ready, Token: "T", URL: "http://localhost:9090/T/", SecretToken: "S", SpawnConfigIgnored: true,
	},
	"error": &messages.Error{ID: "1", Kind: messages.NotFound, Message: "no", Backends: []string{"b"}},
	"register_request": &messages.RegisterRequest{
		Session: "s1", MachineID: "m1", BootID: "b1", Cluster: "localhost:9090", Pool: "gpu", Version: "1.2.3", Runtime: "process",
		Capacity: messages.Capacity{MaxBackends: 10, MaxMemoryBytes: 64 << 30, MaxCPUMillis: 16000}, GraceMS: 10000, DroneTimeMS: 5000, Backends: []string{"b"},
	},
	"register_response": &messages.RegisterResponse{
		Stream: "JETWAY_ACTIONS", Consumer: "dr-a", HeartbeatIntervalMS: 10000,
		Lost:    []string{"b"},
		Renewal: messages.Renewal{Deadlines: messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 2, HardTerminateAtMS: 3}, Sealed: []string{"c"}},
	},
	"heartbeat_request": &messages.HeartbeatRequest{
		Session: "s1", DroneTimeMS: 5000, Ready: true, NotReady: "no guard stands", Load: messages.Load{Backends: 1, MemoryBytes: 1 << 30, CPUMillis: 500},
	},
	"heartbeat_response": &messages.HeartbeatResponse{
		Draining: true,
		Renewal:  messages.Renewal{Deadlines: messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 2, HardTerminateAtMS: 3}, Sealed: []string{"c"}},
	},
	"report_request": &messages.ReportRequest{Session: "s1", Reports: []messages.Report{
		{BackendID: "b", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Tracestate: "vendor=1", State: messages.State{Status: messages.Waiting, Address: "127.0.0.1:8080"}},
		{BackendID: "c", State: ended},
		{BackendID: "d", Refused: true, State: messages.State{
			Status: messages.Terminated, Reason: messages.ReasonStartFailed, Message: "the drone is full: 10 backends",
		}},
	}},
	"action_spawn": &messages.Action{
		Type: messages.TypeSpawn, ID: messages.SpawnID("b"), Time: at, BackendID: "b",
		Spawn: &messages.Spawn{
			Session: "s1", Key: messages.Key{Name: "doc-1"}, FencingToken: 7,
			Deadlines:   messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 2, HardTerminateAtMS: 3},
			StaticToken: "s.T", Executable: json.RawMessage(`{"command":["room"]}`),
		},
	},
	"action_terminate": &messages.Action{
		Type: messages.TypeTerminate, ID: messages.TerminateID("b", true), Time: at, BackendID: "b",
		Terminate: &messages.Terminate{Hard: true, Reason: messages.ReasonLost},
	},
	"event_state": fenced(messages.NewStateEvent("b", at, messages.State{Status: messages.Ready, Address: "127.0.0.1:8080"})),
	"event_drone": &messages.DroneEvent{
		Type: messages.TypeDroneRegistered, ID: "dr-a.s1", Time: at, Drone: "dr-a", Session: "s1", Cluster: "localhost:9090", Pool: "gpu",
	},
	"event_drone_lost": &messages.DroneEvent{
		Type: messages.TypeDroneLost, ID: "dr-a.s1.7", Time: at, Drone: "dr-a", Session: "s1", Cluster: "localhost:9090",
	},
	"event_drone_draining": &messages.DroneEvent{
		Type: messages.TypeDroneDraining, ID: "dr-a.s1.8", Time: at, Drone: "dr-a", Session: "s1", Cluster: "localhost:9090",
	},
	"event_drone_undrained": &messages.DroneEvent{
		Type: messages.TypeDroneUndrained, ID: "dr-a.s1.9", Time: at, Drone: "dr-a", Session: "s1", Cluster: "localhost:9090",
	},
	"event_state_scheduled": fenced(messages.NewStateEvent("b", at, messages.State{Status: messages.Scheduled})),
	"event_state_lost": fenced(messages.NewStateEvent("b", at, messages.State{
		Status: messages.Terminated, LastStatus: messages.Waiting, Address: "127.0.0.1:8080", Reason: messages.ReasonLost,
	})),
	"event_token_of_user":  &messages.TokenEvent{Type: messages.TypeTokenRevoked, ID: "b.revoked.8", Time: at, BackendID: "b", User: new("")},
	"connect_request_join": &messages.ConnectRequest{Key: &messages.Key{Name: "doc-1"}},
	"connect_response_static": &messages.ConnectResponse{
		BackendID: "my-backend", Spawned: true, Status: messages.Scheduled, Token: "s.T", URL: "http://localhost:9090/s.T/", Drone: "dr-a",
	},
	"log_line_of_drone": &messages.LogLine{Time: at, Stream: messages.StreamDrone, Line: "lines may be missing here"},
	"log_line":          &messages.LogLine{Time: at, Stream: messages.StreamStdout, Line: "hello"},
	"stats": &messages.Stats{
		BackendID: "b", Time: at, MemUsed: 64 << 20, MemActive: 48 << 20, MemInactive: 8 << 20, MemUnevictable: 1 << 20,
		MemLimit: 256 << 20, CPUUsed: 2_500_000_000, SysCPU: 8_000_000_000,
	},
	"route_request": &messages.RouteRequest{Token: "T"},
	"route_response": &messages.RouteResponse{
		BackendID: "b", Status: messages.Ready, Address: "127.0.0.1:8080", Cluster: "localhost:9090", Subdomain: "doc",
		User: "ada", Auth: json.RawMessage(`{"role":"editor"}`), SecretToken: "S", ValidForMS: 1000,
	},
	"keepalive_request": &messages.KeepaliveRequest{Backends: []string{"b", "c"}, IdleMS: []int64{0, 1500}, Partial: true},
	"dns_challenge":     &messages.Challenge{Domain: "rooms.example.com", Value: "V"},
	"dns_presented":     &messages.Presented{Server: "ns-a"},
	"terminate_request": &messages.TerminateRequest{BackendID: "b", Hard: true},
	"revoke_request":    &messages.RevokeRequest{BackendID: "b", User: new("ada"), Token: "T"},
	"revoke_response":   &messages.RevokeResponse{Revoked: 2},
	"drain_request":     &messages.DrainRequest{Drone: "dr-a", EndAfterSeconds: new(int64(600))},
	"drain_response":    &messages.DrainResponse{Backends: 2, EndInSeconds: new(int64(599))},
	"event_token": &messages.TokenEvent{
		Type: messages.TypeTokenRevoked, ID: "b.revoked.7", Time: at, BackendID: "b", User: new("ada"), TokenSHA256: "00ff",
	},
	"status_request":     &messages.StatusRequest{BackendID: "b"},
	"status_request_key": &messages.StatusRequest{Key: &messages.Key{Name: "doc-1", Namespace: "rooms"}},
	"status_response": &messages.BackendInfo{
		BackendID: "b", Key: messages.Key{Name: "doc-1"}, Cluster: "localhost:9090", Pool: "gpu", Drone: "dr-a",
		FencingToken: 7, Subdomain: "doc", CreatedAt: at, ChangedAt: at,
		State: messages.State{Status: messages.Ready, Address: "127.0.0.1:8080"}, Number: 50,
	},
	"event_state_ended": fenced(messages.NewStateEvent("b", at, ended)),
	"backends_response": &messages.BackendsResponse{Backends: []messages.BackendInfo{{
		BackendID: "b", Key: messages.Key{Name: "doc-1", Namespace: "team", Tag: "v2"}, Cluster: "localhost:9090", Pool: "gpu", Drone: "dr-a",
		FencingToken: 7, Subdomain: "doc", CreatedAt: at, ChangedAt: at, State: ended, Number: 70,
	}}, Next: "b"},
	"backends_request": &messages.BackendsRequest{Drone: "dr-a", All: true, Page: messages.Page{After: "a", Limit: 10}},
	"backends_request_filtered": &messages.BackendsRequest{
		Key: &messages.Key{Name: "doc-1", Namespace: "rooms"}, Statuses: []messages.Status{messages.Ready, messages.Terminated}, All: true,
		ChangedWithinSeconds: new(int64(3600)), Page: messages.Page{Limit: 10},
	},
	"backends_request_namespace": &messages.BackendsRequest{Namespace: new(""), Page: messages.Page{Limit: 10}},
	"drones_request":             &messages.DronesRequest{Page: messages.Page{After: "dr-a", Limit: 10}},
	"drones_response": &messages.DronesResponse{Drones: []messages.DroneInfo{{
		Drone: "dr-a", Cluster: "localhost:9090", Pool: "gpu", Session: "s1", Runtime: "process", Version: "1.2.3",
		Ready: true, NotReady: "no guard stands", Draining: true, Capacity: messages.Capacity{MaxBackends: 10, MaxMemoryBytes: 64 << 30, MaxCPUMillis: 16000},
		Load: messages.Load{Backends: 1, MemoryBytes: 1 << 30, CPUMillis: 500}, HeardMSAgo: 5, Lost: true,
	}}, Next: "dr-a"},
}

// The protocol is what is in testdata: a change there is a change for every peer.
func TestGoldenJSON(t *testing.T) {
	for name, v := range golden {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".json")
			got, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
			back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := json.Unmarshal(want, back); err != nil {
				t.Fatal(err)
			}
			again, _ := json.MarshalIndent(back, "", "  ")
			if diff := cmp.Diff(string(want), string(again)+"\n"); diff != "" {
				t.Errorf("does not survive reading and writing: %s", diff)
			}
		})
	}
}

type decoder struct {
	name   string
	decode func([]byte) error
}

func decoderOf[T any](decode func([]byte) (T, error)) func([]byte) error {
	return func(data []byte) error { _, err := decode(data); return err }
}

// decoders are all that read what comes over the bus.
var decoders = []decoder{
	{"connect_request", decoderOf(messages.Decode[messages.ConnectRequest])},
	{"register_request", decoderOf(messages.Decode[messages.RegisterRequest])},
	{"heartbeat_request", decoderOf(messages.Decode[messages.HeartbeatRequest])},
	{"report_request", decoderOf(messages.Decode[messages.ReportRequest])},
	{"route_request", decoderOf(messages.Decode[messages.RouteRequest])},
	{"keepalive_request", decoderOf(messages.Decode[messages.KeepaliveRequest])},
	{"terminate_request", decoderOf(messages.Decode[messages.TerminateRequest])},
	{"status_request", decoderOf(messages.Decode[messages.StatusRequest])},
	{"backends_request", decoderOf(messages.Decode[messages.BackendsRequest])},
	{"drones_request", decoderOf(messages.Decode[messages.DronesRequest])},
	{"action_spawn", decoderOf(messages.Decode[messages.Action])},
	{"event_state", decoderOf(messages.Decode[messages.StateEvent])},
	{"revoke_request", decoderOf(messages.Decode[messages.RevokeRequest])},
	{"drain_request", decoderOf(messages.Decode[messages.DrainRequest])},
	{"event_token", decoderOf(messages.Decode[messages.TokenEvent])},
	{"stats", decoderOf(messages.Decode[messages.Stats])},
	{"log_line", decoderOf(messages.Decode[messages.LogLine])},
	{"dns_challenge", decoderOf(messages.Decode[messages.Challenge])},
	{"status_request_key", decoderOf(messages.Decode[messages.StatusRequest])},
	{"backends_request_filtered", decoderOf(messages.Decode[messages.BackendsRequest])},
	{"backends_request_namespace", decoderOf(messages.Decode[messages.BackendsRequest])},
}

func TestGoldenRequestsAreValid(t *testing.T) {
	for _, d := range decoders {
		data, err := os.ReadFile(filepath.Join("testdata", d.name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.decode(data); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	if _, err := messages.Decode[messages.StatusRequest]([]byte(`{"backend_id":"b","colour":"red"}`)); err != nil {
		t.Fatal(err)
	}
}

// Bad input gets BadRequest, and the message names the field.
func TestBadInputNamesTheField(t *testing.T) {
	spawn := func(extra string) string {
		return `{"key":{"name":"k"},"spawn_config":{"executable":{}` + extra + `}}`
	}
	for _, c := range []struct{ payload, field string }{
		{`nope`, "JSON"},
		{`[1]`, "the payload"},
		{`"x"`, "the payload"},
		{"{\"key\":{\"name\":\"\xff\"}}", "UTF-8"},
		{strings.Repeat(" ", 1<<20), "bytes long"},
		{`{"key":{"name":""}}`, "key.name"},
		{`{"key":{"name":"a\u0000b"}}`, "key.name"},
		{`{"key":{"name":"a\nb"}}`, "key.name"},
		{`{"key":{"name":"` + strings.Repeat("x", 256) + `"}}`, "key.name"},
		{`{"key":{"name":5}}`, "key.name"},
		{`{"key":{"name":"k","namespace":"\u0007"}}`, "key.namespace"},
		{`{"key":{"name":"k","tag":"\u0085"}}`, "key.tag"},
		{`{"user":"a\u0000"}`, "user"},
		{`{"auth":[1]}`, "auth"},
		{`{"auth":{"x":"` + strings.Repeat("y", 64<<10) + `"}}`, "auth"},
		{`{"key":{"name":"k"},"spawn_config":{}}`, "spawn_config.executable"},
		{`{"key":{"name":"k"},"spawn_config":{"executable":"room"}}`, "spawn_config.executable"},
		{`{"key":{"name":"k"},"spawn_config":{"executable":{"x":"` + strings.Repeat("y", 256<<10) + `"}}}`, "spawn_config.executable"},
		{spawn(`,"id":"a.b"`), "spawn_config.id"},
		{spawn(`,"id":"*"`), "spawn_config.id"},
		{spawn(`,"id":">"`), "spawn_config.id"},
		{spawn(`,"id":"a b"`), "spawn_config.id"},
		{spawn(`,"id":"` + strings.Repeat("x", 46) + `"`), "spawn_config.id"},
		{spawn(`,"cluster":"a b"`), "spawn_config.cluster"},
		{spawn(`,"cluster":"a:0"`), "spawn_config.cluster"},
		{spawn(`,"cluster":"a:99999"`), "spawn_config.cluster"},
		{spawn(`,"cluster":"a/b"`), "spawn_config.cluster"},
		{spawn(`,"pool":"a\u0000"`), "spawn_config.pool"},
		{spawn(`,"lifetime_limit_seconds":0`), "lifetime_limit_seconds"},
		{spawn(`,"lifetime_limit_seconds":-1`), "lifetime_limit_seconds"},
		{spawn(`,"lifetime_limit_seconds":1e30`), "lifetime_limit_seconds"},
		{spawn(`,"max_idle_seconds":9223372036854775807`), "max_idle_seconds"},
		{spawn(`,"max_idle_seconds":1.5`), "max_idle_seconds"},
		{spawn(`,"subdomain":"a.b"`), "spawn_config.subdomain"},
		{spawn(`,"subdomain":"-a"`), "spawn_config.subdomain"},
		{spawn(`,"subdomain":"A"`), "spawn_config.subdomain"},
		{spawn(`,"use_static_token":"yes"`), "use_static_token"},
	} {
		_, err := messages.Decode[messages.ConnectRequest]([]byte(c.payload))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%.80s: got %v, want BadRequest naming %q", c.payload, err, c.field)
		}
	}
}

// What drones say of their room, and of refusals, is as bounded as the rest.
func TestBadInputOfDronesNamesTheField(t *testing.T) {
	register := func(extra string) string {
		return `{"session":"s","machine_id":"m","boot_id":"b","cluster":"c","drone_time_ms":1,` + extra + `}`
	}
	for _, c := range []struct {
		decode         func([]byte) error
		payload, field string
	}{
		{decoders[1].decode, register(`"max_backends":-1`), "max_backends"},
		{decoders[1].decode, register(`"max_memory_bytes":-1`), "max_memory_bytes"},
		{decoders[1].decode, register(`"max_memory_bytes":1125899906842625`), "max_memory_bytes"},
		{decoders[1].decode, register(`"max_cpu_millis":0.5`), "max_cpu_millis"},
		{decoders[1].decode, register(`"max_cpu_millis":9223372036854775807`), "max_cpu_millis"},
		{decoders[2].decode, `{"session":"s","drone_time_ms":1,"load":{"backends":-1}}`, "load.backends"},
		{decoders[2].decode, `{"session":"s","drone_time_ms":1,"load":{"memory_bytes":-1}}`, "load.memory_bytes"},
		{decoders[2].decode, `{"session":"s","drone_time_ms":1,"load":{"cpu_millis":1125899906842625}}`, "load.cpu_millis"},
		{decoders[3].decode, `{"session":"s","reports":[{"backend_id":"b","refused":true,"status":"ready"}]}`, "reports[0].refused"},
		{decoders[15].decode, `{"backend_id":"b c"}`, "backend_id"},
		{decoders[15].decode, `{"backend_id":"b","mem_used":-1}`, "mem_used"},
		{decoders[15].decode, `{"backend_id":"b","cpu_used":18446744073709551616}`, "cpu_used"},
		{decoders[16].decode, `{"stream":"stdin","line":""}`, "stream"},
		{decoders[16].decode, `{"stream":"stdout","line":"` + strings.Repeat("x", 64<<10+1) + `"}`, "line"},
		{decoders[16].decode, `{"stream":"stdout","line":"","time":"yesterday"}`, "time"},
	} {
		err := c.decode([]byte(c.payload))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%.80s: got %v, want BadRequest naming %q", c.payload, err, c.field)
		}
	}
}

// auth may hold \u0000: it is kept as it is.
func TestNULInAuthIsKept(t *testing.T) {
	r, err := messages.Decode[messages.ConnectRequest]([]byte(`{"auth":{"x":"\u0000"}}`))
	if err != nil || string(r.Auth) != `{"x":"\u0000"}` {
		t.Fatalf("got %s, %v", r.Auth, err)
	}
}

// What is within the limits stays below NATS's 1 MiB however it is escaped.
func TestEncodeDoesNotGrow(t *testing.T) {
	executable := `{"x":"` + strings.Repeat("<", 255<<10) + `"}`
	if n := len(messages.Encode(messages.Spawn{Executable: json.RawMessage(executable)})); n > 300<<10 {
		t.Fatalf("%d bytes", n)
	}
}

func TestUnknownStatusIsRefused(t *testing.T) {
	_, err := messages.Decode[messages.ReportRequest]([]byte(`{"session":"s","reports":[{"backend_id":"b","status":"asleep"}]}`))
	if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), "asleep") {
		t.Fatal(err)
	}
}

func TestClusters(t *testing.T) {
	for _, ok := range []string{"localhost", "localhost:9090", "a.b.example:443", "10.0.0.1:80", "[::1]:80", "127.0.0.1"} {
		if err := messages.CheckCluster(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", ":80", "a:", "a:b", "a..b", "*.b", "a>b", "http://a", "a:80:80", "a:+5", strings.Repeat("a.", 200) + "b"} {
		if messages.CheckCluster(bad) == nil {
			t.Errorf("%q was taken for a cluster", bad)
		}
	}
}

func TestDomains(t *testing.T) {
	for _, ok := range []string{"localhost", "a.b.example", "xn--caf-dma.example", "1.example"} {
		if err := messages.CheckDomain(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a.", "a:80", "127.0.0.1", "[::1]", "::1", "*.b", "A.example", "_acme-challenge.a", strings.Repeat("a.", 120) + "b"} {
		if messages.CheckDomain(bad) == nil {
			t.Errorf("%q was taken for a domain", bad)
		}
	}
}

// A value becomes a DNS record: nothing but what an authority asks for can.
func TestChallengeValues(t *testing.T) {
	for _, bad := range []string{"", "a b", "a\\u0000", "é", "a.b", strings.Repeat("x", messages.MaxChallengeValue+1)} {
		_, err := messages.Decode[messages.Challenge]([]byte(`{"domain":"a.example","value":"` + bad + `"}`))
		if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), "value") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestBackendURL(t *testing.T) {
	for _, c := range []struct{ cluster, subdomain, want string }{
		{"localhost:9090", "", "http://localhost:9090/T/"},
		{"example.com", "", "https://example.com/T/"},
		{"example.com:443", "doc", "https://doc.example.com:443/T/"},
		{"example.com:8443", "", "http://example.com:8443/T/"},
	} {
		if got := messages.BackendURL(c.cluster, c.subdomain, "T"); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestSubjects(t *testing.T) {
	for subject, want := range map[string]string{
		messages.ReportSubject("dr-a"): "dr-a",
		messages.RouteSubject("px-a"):  "px-a",
		"jetway.drone.px-a.report":     "",
		"jetway.drone.dr-a.b.report":   "",
		"jetway.drone.*.report":        "",
		"jetway.drone.dr-.report":      "",
		"jetway.proxy.dr-a.route":      "",
		"jetway.elsewhere.dr-a.report": "",
	} {
		got, err := messages.SenderOf(subject)
		if (err == nil) != (want != "") || (want != "" && got != want) {
			t.Errorf("%s: got %q, %v", subject, got, err)
		}
	}
}

// Every kind has the code of the design's table.
func TestCodes(t *testing.T) {
	for kind, code := range map[messages.Kind]int{
		messages.BadRequest: 400, messages.NoClusterProvided: 400, messages.NotFound: 404,
		messages.KeyHeld: 409, messages.KeyUnheldNoSpawnConfig: 409, messages.BackendExists: 409, messages.KeyHeldUnhealthy: 409, messages.DroneHeld: 409,
		messages.TemplateChanged: 409, messages.Forbidden: 403,
		messages.FailedToAcquireKey: 500, messages.Internal: 500,
		messages.NoDroneAvailable: 503, messages.Overloaded: 503, messages.Unavailable: 503,
	} {
		if kind.Code() != code {
			t.Errorf("%s has code %d", kind, kind.Code())
		}
	}
}
