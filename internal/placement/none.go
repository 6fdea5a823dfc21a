package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// State is how a drone stands to new backends.
type State string

// The states, the first that holds of a drone.
const (
	Lost     State = "lost"      // its lease has run out
	Silent   State = "silent"    // not heard lately: its lease still lives
	Draining State = "draining"  // an operator has it drained
	NotReady State = "not-ready" // it says that it takes none
	Full     State = "full"      // its capacity is reached
	Ready    State = "ready"
)

// Group is the drones of one cluster and pool that are in one state.
type Group struct {
	Cluster, Pool string
	State         State
	Drones        int
	// HeardAgo is how long ago the last of them was heard, in seconds.
	HeardAgo float64
	// What they have and what they take at most; Limited says of how many of them there is a limit of each.
	Load     messages.Load
	Capacity messages.Capacity
	Limited  Limited
	// Stopped is of how many of them the agent was stopped, and not replaced or killed.
	Stopped int
}

// Limited counts drones that have a limit.
type Limited struct{ Backends, Memory, CPU int }

// None says why no drone of a cluster and pool takes a backend, for programs and for people. Groups are all that are
// remembered.
func None(groups []Group, cluster, pool string) (messages.NoDrone, string) {
	of := make(map[State]int)
	all, known := 0, 0
	heard, stopped := -1.0, 0
	var pools []string
	for i := range groups {
		g := &groups[i]
		if g.Cluster != cluster {
			continue
		}
		if known += g.Drones; g.Pool != pool {
			if name := fmt.Sprintf("%q", g.Pool); !slices.Contains(pools, name) {
				pools = append(pools, name)
			}
			continue
		}
		all += g.Drones
		of[g.State] += g.Drones
		stopped += g.Stopped
		if g.State == Lost || g.State == Silent {
			if heard < 0 || g.HeardAgo < heard {
				heard = g.HeardAgo
			}
		}
	}
	none := fmt.Sprintf("no drone of cluster %q, pool %q can take a backend: ", cluster, pool)
	switch {
	case known == 0:
		return messages.NoDroneOfCluster, none + "no drone of the cluster is known. Is the name right, and has a drone of it registered?"
	case all == 0:
		slices.Sort(pools)
		const named = 10
		text := strings.Join(pools[:min(len(pools), named)], ", ")
		return messages.NoDroneOfPool, none + "the cluster has no drone in the pool; it has pools " + text
	}
	var parts []string
	for _, s := range []struct {
		state State
		words string
	}{{Full, "full"}, {Draining, "draining"}, {NotReady, "not ready"}, {Silent, "silent"}, {Lost, "lost"}} {
		if n := of[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	text := fmt.Sprintf("of its %d drones, %s", all, strings.Join(parts, ", "))
	if len(parts) == 1 {
		text = fmt.Sprintf("all its drones are %s (%d)", strings.TrimLeft(parts[0], "0123456789 "), all)
	}
	if stopped > 0 {
		text += fmt.Sprintf("; the agents of %d were stopped", stopped)
	}
	// What would help is said first: where some are there and full, those that are away are not why.
	switch {
	case of[Ready] > 0 || of[Full] > 0:
		if of[Full] == 0 {
			text = fmt.Sprintf("its %d drones have no room beside what they are just being given", of[Ready])
		}
		return messages.NoDroneFree, none + text
	case of[Draining] > 0:
		return messages.NoDroneDraining, none + text
	case of[NotReady] > 0:
		return messages.NoDroneReady, none + text + ": `jetway drones` says why"
	}
	return messages.NoDroneHeard, none + text + fmt.Sprintf("; the last one was heard %.0f s ago", heard)
}
