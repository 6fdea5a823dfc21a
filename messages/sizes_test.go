package messages

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// I7: whatever a part may put into one message, at its largest, is read by the other.
func TestI7EveryMessageAtItsLargestIsRead(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("a", MaxBackendID)
	name := strings.Repeat(`"`, MaxName)
	held := slices.Repeat([]string{id}, MaxNamed)
	// Silent are only connections that are open.
	keepalive := KeepaliveRequest{Backends: slices.Repeat([]string{id}, MaxKeepalives), IdleMS: slices.Repeat([]int64{MaxIdleMS}, MaxKeepalives), SilentMS: make([]int64, MaxKeepalives)}
	cluster := strings.Repeat("a.", 120) + "a:65535"
	large := Capacity{1e9, maxPromise, maxPromise}
	auth := json.RawMessage(`{"a":"` + strings.Repeat("x", MaxAuth-8) + `"}`)
	executable := json.RawMessage(`{"a":"` + strings.Repeat("x", MaxExecutable-8) + `"}`)
	key := Key{Name: name, Namespace: name, Tag: name}
	seconds := int64(MaxSeconds)
	register := RegisterRequest{Session: id, MachineID: id, BootID: id, Cluster: cluster, Pool: name, Version: name, Runtime: name, Capacity: large, DroneTimeMS: 1 << 40, Backends: held}
	heartbeat := HeartbeatRequest{Session: id, DroneTimeMS: 1 << 40, NotReady: strings.Repeat("x", MaxNotReady), Load: Load{1e9, maxPromise, maxPromise}}
	template := Template{Name: id, Cluster: cluster, Pool: name, LifetimeLimitSeconds: &seconds, MaxIdleSeconds: &seconds, Spares: MaxSpares, ClaimPath: "/" + strings.Repeat("x", MaxName-1), Revision: 1 << 60}
	heartbeat.Spares = slices.Repeat([]SpareState{{Template: id, Revision: 1 << 60, Ready: 1e9, Starting: 1e9, Claims: 1e9, Misses: 1e9, Error: strings.Repeat(`"`, MaxSpareError)}}, MaxTemplates)
	few := template
	few.Executable = json.RawMessage(`{"a":"` + strings.Repeat("x", MaxExecutable/MaxTemplates-8) + `"}`)
	template.Executable = executable
	connect := ConnectRequest{Key: &key, User: name, Auth: auth, SpawnConfig: &SpawnConfig{
		ID: id, Cluster: cluster, Pool: name, Executable: executable, LifetimeLimitSeconds: &seconds, MaxIdleSeconds: &seconds, Subdomain: strings.Repeat("a", 63),
	}}
	for what, err := range map[string]error{
		"register":  decodes[RegisterRequest](register),
		"heartbeat": decodes[HeartbeatRequest](heartbeat),
		"keepalive": decodes[KeepaliveRequest](keepalive),
		"connect":   decodes[ConnectRequest](connect),
		"spawn": decodes[Action](Action{Type: TypeSpawn, ID: id, BackendID: id, Spawn: &Spawn{
			Session: id, Key: key, FencingToken: 1 << 60, StaticToken: strings.Repeat("s", MaxToken), Executable: executable,
			Template: &SpawnTemplate{Name: id, Revision: 1 << 60, ClaimPath: template.ClaimPath},
		}}),
		"template":  decodes[Template](template),
		"templates": CheckPayload(Encode(TemplatesResponse{Revision: 1 << 60, Templates: slices.Repeat([]Template{few}, MaxTemplates)})),
		"renewal":   CheckPayload(Encode(RegisterResponse{Lost: held})),
		"route":     CheckPayload(Encode(RouteResponse{BackendID: id, Cluster: cluster, User: name, Auth: auth})),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func decodes[T any, P validated[T]](payload any) error {
	_, err := Decode[T, P](Encode(payload))
	return err
}
