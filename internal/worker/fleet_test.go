package worker_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// The demand: running backends, drones, and how full pools are, are metrics.
func TestFleetMetricsSayHowFullPoolsAre(t *testing.T) {
	t.Parallel()
	group := func(state placement.State, drones, load, most int, limitedMemory int) placement.Group {
		return placement.Group{
			Cluster: "c", Pool: "p", State: state, Drones: drones, Load: messages.Load{Backends: load, CPUMillis: 1500, MemoryBytes: 10},
			Capacity: messages.Capacity{MaxBackends: most, MaxMemoryBytes: 100, MaxCPUMillis: 4000},
			Limited:  placement.Limited{Backends: drones, Memory: limitedMemory, CPU: drones},
		}
	}
	fleet := worker.FleetOf([]placement.Group{
		group(placement.Ready, 2, 3, 10, 1), group(placement.Full, 1, 5, 5, 1), group(placement.Lost, 4, 100, 100, 4),
	}, []store.Live{{Cluster: "c", Status: messages.Ready, Backends: 7}}, 3)
	for _, want := range []metrics.PoolUse{
		{Cluster: "c", Pool: "p", Resource: "backends", Load: 8, Capacity: 15},
		{Cluster: "c", Pool: "p", Resource: "cpus", Load: 3, Capacity: 8},
		{Cluster: "c", Pool: "p", Resource: "memory", Load: 20}, // one has no limit
	} {
		if !slices.Contains(fleet.Pools, want) {
			t.Errorf("pools %+v, without %+v", fleet.Pools, want)
		}
	}
	for state, n := range map[string]int{"ready": 2, "full": 1, "lost": 4, "silent": 0, "draining": 0, "not-ready": 0} {
		if want := (metrics.Drones{Cluster: "c", Pool: "p", State: state, Drones: n}); !slices.Contains(fleet.Drones, want) {
			t.Errorf("drones %+v, without %+v", fleet.Drones, want)
		}
	}
	for status, n := range map[string]int{"ready": 7, "scheduled": 0, "hard-terminating": 0} {
		if want := (metrics.Backends{Cluster: "c", Status: status, Backends: n}); !slices.Contains(fleet.Backends, want) {
			t.Errorf("backends %+v, without %+v", fleet.Backends, want)
		}
	}
	if fleet.Proxies != 3 || len(fleet.Backends) != len(messages.Statuses)-1 {
		t.Errorf("%+v", fleet)
	}
}
