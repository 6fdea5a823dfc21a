package cli

import (
	"fmt"
	"slices"
	"testing"

	"github.com/moby/moby/client"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: capacity is declared at registration, and what a drone refuses beyond it is placed
// on another one, under the same lease.
func TestWhatADroneRefusesIsPlacedOnAnother(t *testing.T) {
	t.Parallel()
	large, small := newSite(t, "docker"), newSite(t, "docker")
	small.pool = large.pool
	room := map[string]any{"image": large.image("/room"), "pull_policy": "Never"}
	large.agent(t.TempDir(), "")
	small.agent(t.TempDir(), "", "--max-backends", "5", "--max-memory", "64MB", "--max-cpus", "1.5")
	if got := small.info().Capacity; got != (messages.Capacity{MaxBackends: 5, MaxMemoryBytes: 64_000_000, MaxCPUMillis: 1500}) {
		t.Errorf("declared %+v", got)
	}

	actions := make(chan messages.Action, 64)
	for _, drone := range []string{large.drone, small.drone} {
		if _, err := small.nc.Subscribe(messages.ActionSubject(drone), func(m *nats.Msg) {
			if action, err := messages.Decode[messages.Action](m.Data); err == nil {
				actions <- action
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	// Of two drones the less loaded one is chosen: the second of these is given to the small one, if
	// the first was not.
	room["resource_limits"] = map[string]int64{"memory_limit_bytes": 128 << 20}
	var resp *messages.ConnectResponse
	n := 0
	testkit.Eventually(t, "it is given one", func() bool {
		n++
		resp = small.connect(fmt.Sprintf("large-%d", n), room)
		return resp.Drone == small.drone
	})
	small.awaitStatus(resp.BackendID, messages.Ready)
	info := small.status(resp.BackendID)
	if info.Drone != large.drone {
		t.Errorf("it runs on %q", info.Drone)
	}
	got, err := large.engine.ContainerInspect(testkit.Context(t), "jetway-"+resp.BackendID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if token := fmt.Sprintf("SESSION_BACKEND_FENCING_TOKEN=%d", info.FencingToken); !slices.Contains(got.Container.Config.Env, token) {
		t.Errorf("it runs without %s", token)
	}
	for told := 0; told < 2; {
		action := testkit.Receive(t, actions, "that both drones are told to spawn it")
		if action.BackendID != resp.BackendID || action.Spawn == nil {
			continue
		}
		if told++; action.Spawn.FencingToken != info.FencingToken {
			t.Errorf("one drone was told the fencing token %d, and the lease has %d", action.Spawn.FencingToken, info.FencingToken)
		}
	}
}
