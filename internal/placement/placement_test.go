package placement_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/placement"
)

// hasRoom says once more, in other words, what Full says.
func hasRoom(d placement.Drone) bool {
	below := func(used, limit int64) bool { return limit == 0 || used < limit }
	return !d.Refused && below(int64(d.Backends), int64(d.MaxBackends)) &&
		below(d.MemoryBytes, d.MaxMemoryBytes) && below(d.CPUMillis, d.MaxCPUMillis)
}

// A pick is always of the asked cluster and pool, under its capacity and none of those left out; none is
// found only when there is none; every pick is counted.
func TestPickIsInGroupAndUnderCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "drones")
		drones := make([]placement.Drone, n)
		for i := range drones {
			drones[i] = placement.Drone{
				Name:        fmt.Sprintf("dr-%d", i),
				Cluster:     rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cluster"),
				Pool:        rapid.SampledFrom([]string{"", "gpu"}).Draw(t, "pool"),
				MaxBackends: rapid.IntRange(0, 5).Draw(t, "max"),
				Backends:    rapid.IntRange(0, 6).Draw(t, "backends"),

				MaxMemoryBytes: rapid.Int64Range(0, 3).Draw(t, "max memory"),
				MemoryBytes:    rapid.Int64Range(0, 4).Draw(t, "memory"),
				MaxCPUMillis:   rapid.Int64Range(0, 3).Draw(t, "max cpu"),
				CPUMillis:      rapid.Int64Range(0, 4).Draw(t, "cpu"),
				Refused:        rapid.IntRange(0, 4).Draw(t, "refused") == 0,
			}
		}
		s := placement.NewSnapshot(drones, nil)
		choices := rapid.IntRange(1, 4).Draw(t, "choices")
		except := rapid.SliceOfN(rapid.SampledFrom([]string{"dr-0", "dr-1", "dr-2", "dr-none"}), 0, 3).Draw(t, "except")
		random := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "random") }
		for range rapid.IntRange(1, 30).Draw(t, "picks") {
			room := 0
			for i := range drones {
				if d := &drones[i]; d.Cluster == "a" && d.Pool == "gpu" && hasRoom(*d) && !slices.Contains(except, d.Name) {
					room++
				}
			}
			before := make([]int, n)
			for i := range drones {
				before[i] = drones[i].Backends
			}
			d, ok := s.Pick(placement.Want{Cluster: "a", Pool: "gpu"}, choices, random, except...)
			if ok != (room > 0) {
				t.Fatalf("found: %v, though %d drones have room", ok, room)
			}
			if !ok {
				return
			}
			picked := *d
			picked.Backends-- // it was counted
			if d.Cluster != "a" || d.Pool != "gpu" || !hasRoom(picked) || slices.Contains(except, d.Name) {
				t.Fatalf("picked %+v", *d)
			}
			for i := range drones {
				if drones[i].Name == d.Name && drones[i].Backends != before[i]+1 {
					t.Fatalf("the pick was not counted")
				}
			}
		}
	})
}

// With as many choices as drones, the least loaded is always picked, so loads
// never differ by more than one.
func TestManyChoicesBalanceExactly(t *testing.T) {
	drones := make([]placement.Drone, 5)
	for i := range drones {
		drones[i] = placement.Drone{Name: fmt.Sprintf("dr-%d", i)}
	}
	s := placement.NewSnapshot(drones, nil)
	for range 103 {
		if _, ok := s.Pick(placement.Want{}, 5, func(int) int { return 0 }); !ok {
			t.Fatal("found none")
		}
	}
	least, most := drones[0].Backends, drones[0].Backends
	for _, d := range drones {
		least, most = min(least, d.Backends), max(most, d.Backends)
	}
	if most-least > 1 {
		t.Fatalf("loads are %d to %d", least, most)
	}
}

// Two choices leave no drone far behind the others.
func TestTwoChoicesSpreadTheLoad(t *testing.T) {
	drones := make([]placement.Drone, 10)
	for i := range drones {
		drones[i] = placement.Drone{Name: fmt.Sprintf("dr-%d", i)}
	}
	s := placement.NewSnapshot(drones, nil)
	state := uint32(1)
	random := func(n int) int {
		state = state*1664525 + 1013904223
		return int(state>>8) % n
	}
	for range 1000 {
		s.Pick(placement.Want{}, 2, random)
	}
	for _, d := range drones {
		if d.Backends < 90 || d.Backends > 110 {
			t.Fatalf("%s has %d of 1000 backends", d.Name, d.Backends)
		}
	}
}
