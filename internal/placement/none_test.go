package placement_test

import (
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// The demand: NoDroneAvailable says which: unknown cluster, unknown pool, full, draining, not ready, or none heard of for how long.
func TestNoneSaysWhyThereIsNoDrone(t *testing.T) {
	t.Parallel()
	of := func(pool string, state placement.State, drones int, heard float64) placement.Group {
		return placement.Group{Cluster: "c", Pool: pool, State: state, Drones: drones, HeardAgo: heard}
	}
	for name, tt := range map[string]struct {
		groups []placement.Group
		want   messages.NoDrone
		says   []string
	}{
		"no drone at all":    {nil, messages.NoDroneOfCluster, []string{`cluster "c"`, "no drone of the cluster is known"}},
		"another cluster's":  {[]placement.Group{{Cluster: "d", State: placement.Ready, Drones: 1}}, messages.NoDroneOfCluster, nil},
		"another pool's":     {[]placement.Group{of("gpu", placement.Ready, 1, 1), of("a", placement.Full, 1, 1)}, messages.NoDroneOfPool, []string{`"a", "gpu"`}},
		"all full":           {[]placement.Group{of("", placement.Full, 3, 1)}, messages.NoDroneFree, []string{"all its drones are full (3)"}},
		"full and others":    {[]placement.Group{of("", placement.Full, 2, 1), of("", placement.Draining, 1, 1), of("", placement.Lost, 4, 99)}, messages.NoDroneFree, []string{"of its 7 drones, 2 full, 1 draining, 4 lost"}},
		"just being filled":  {[]placement.Group{of("", placement.Ready, 2, 1)}, messages.NoDroneFree, []string{"just being given"}},
		"all draining":       {[]placement.Group{of("", placement.Draining, 1, 1)}, messages.NoDroneDraining, []string{"all its drones are draining (1)"}},
		"not ready":          {[]placement.Group{of("", placement.NotReady, 1, 1), of("", placement.Silent, 1, 30)}, messages.NoDroneReady, []string{"1 not ready, 1 silent", "jetway drones"}},
		"none heard":         {[]placement.Group{of("", placement.Lost, 2, 300), of("", placement.Silent, 1, 31.4)}, messages.NoDroneHeard, []string{"the last one was heard 31 s ago"}},
		"all lost":           {[]placement.Group{of("", placement.Lost, 2, 300)}, messages.NoDroneHeard, []string{"all its drones are lost (2)", "300 s ago"}},
		"agents stopped":     {[]placement.Group{{Cluster: "c", State: placement.Silent, Drones: 2, HeardAgo: 31, Stopped: 1}}, messages.NoDroneHeard, []string{"the agents of 1 were stopped"}},
		"lost, others' pool": {[]placement.Group{of("", placement.Lost, 2, 300), of("gpu", placement.Ready, 2, 1)}, messages.NoDroneHeard, nil},
	} {
		reason, text := placement.None(tt.groups, "c", "")
		if reason != tt.want {
			t.Errorf("%s: %s, want %s", name, reason, tt.want)
		}
		for _, part := range tt.says {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q does not say %q", name, text, part)
			}
		}
	}
}
