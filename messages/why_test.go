package messages_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func init() {
	why := messages.Why{Cause: messages.CauseAsked, By: "ada@ops", Words: "ada@ops asked for its end: an upgrade"}
	asked := messages.State{Status: messages.Terminated, LastStatus: messages.Ready, Kind: messages.Soft, Reason: messages.ReasonExternal, Why: why}
	golden["terminate_request_why"] = &messages.TerminateRequest{BackendID: "b", By: "ada@ops", Reason: "an upgrade"}
	golden["event_state_asked"] = new(messages.NewStateEvent("b", at, asked))
	golden["forget_request"] = &messages.ForgetRequest{Drone: "dr-a"}
	golden["error_no_drone"] = &messages.Error{ID: "1", Kind: messages.NoDroneAvailable, Message: "no", Reason: string(messages.NoDroneFree)}
	golden["route_response_key"] = &messages.RouteResponse{BackendID: "b", Key: &messages.Key{Name: "doc-1", Namespace: "team", Tag: "v2"}, Status: messages.Loading, Cluster: "localhost:9090"}
	golden["status_response_ended"] = &messages.BackendInfo{
		BackendID: "b", Key: messages.Key{Name: "doc-1"}, Cluster: "localhost:9090", Drone: "dr-a", CreatedAt: at, ChangedAt: at,
		EndedAt: &at, LastUsedAt: &at, LifetimeEndsAt: &at, MaxIdleSeconds: &seconds, Runs: "room --size 4", Users: []string{"ada"}, MoreUsers: true,
		State: asked, Number: 70,
	}
	golden["drones_response_full"] = &messages.DronesResponse{Drones: []messages.DroneInfo{{
		Drone: "dr-a", Cluster: "localhost:9090", Session: "s1", Ready: true, Full: true, Capacity: messages.Capacity{MaxBackends: 1}, Load: messages.Load{Backends: 1},
	}}}
	decoders = append(decoders,
		decoder{"terminate_request_why", decoderOf(messages.Decode[messages.TerminateRequest])},
		decoder{"forget_request", decoderOf(messages.Decode[messages.ForgetRequest])})
}

func TestWhatRunsIsSaidWithoutItsVariables(t *testing.T) {
	t.Parallel()
	for executable, want := range map[string]string{
		`{"image":"docker.io/library/redis:7","env":{"PASSWORD":"hidden"}}`: "docker.io/library/redis:7",
		`{"image":"app","command":["ignored"]}`:                             "app",
		`{"command":["room","--size","4"],"env":{"KEY":"hidden"}}`:          "room --size 4",
		"{\"command\":[\"a\\n\\u001b[31mb\"]}":                              "a  [31mb",
		`{"command":"one"}`:                                                 "",
		`{"image":7}`:                                                       "",
		`{"vm":"x"}`:                                                        "",
		`{"command":["room"],"COMMAND":["nope"]}`:                           "room", // names are exact
		`[]`: "",
		`{"command":["` + strings.Repeat("é", 300) + `"]}`: strings.Repeat("é", 100) + "…",
	} {
		if got := messages.Runs(json.RawMessage(executable)); got != want {
			t.Errorf("%.60s runs %q, want %q", executable, got, want)
		}
	}
}
