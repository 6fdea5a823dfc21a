package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: capacity is declared at registration, and what a drone refuses beyond it is placed
// on another one, under the same lease.
func TestWhatADroneRefusesIsPlacedOnAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	large, small := s.with(t, "docker"), s.with(t, "docker")
	room := map[string]any{"image": large.image("/room"), "pull_policy": "Never"}
	large.agent(t.TempDir(), "")
	small.agent(t.TempDir(), "", "--max-backends", "5", "--max-memory", "64MB", "--max-cpus", "1.5")
	if got := small.info().Capacity; got != (messages.Capacity{MaxBackends: 5, MaxMemoryBytes: 64_000_000, MaxCPUMillis: 1500}) {
		t.Errorf("declared %+v", got)
	}

	actions := make(chan messages.Action, 64)
	if _, err := s.nc.Subscribe(messages.SubjectAllActions, func(m *nats.Msg) {
		if action, err := messages.Decode[messages.Action](m.Data); err == nil {
			actions <- action
		}
	}); err != nil {
		t.Fatal(err)
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
	info := s.status(resp.BackendID)
	if info.Drone != large.drone {
		t.Errorf("it runs on %q", info.Drone)
	}
	if token := fmt.Sprintf("SESSION_BACKEND_FENCING_TOKEN=%d\n", info.FencingToken); !strings.Contains(shell(t, "docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' jetway-"+resp.BackendID), token) {
		t.Errorf("it runs without %s", token)
	}
	for told := 0; told < 2; {
		select {
		case action := <-actions:
			if action.BackendID != resp.BackendID || action.Spawn == nil {
				continue
			}
			if told++; action.Spawn.FencingToken != info.FencingToken {
				t.Errorf("one drone was told the fencing token %d, and the lease has %d", action.Spawn.FencingToken, info.FencingToken)
			}
		case <-time.After(patience):
			t.Fatalf("%d drones were told to spawn it", told)
		}
	}
}
