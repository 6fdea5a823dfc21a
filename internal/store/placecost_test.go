package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: what placing costs does not grow with the backends that live, by plans that were made when there were
// none: nothing is counted. Found at 200,000 of them: a second and worker cost 0.4 s of Postgres.
func TestI8PlacingLooksAtDronesAndNotAtTheirBackends(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	placeable := newExplainer(t, d, store.PlaceableSQL, 1)
	place := newExplainer(t, d, store.PlaceSQL, 5)
	spawn := newExplainer(t, d, store.SpawnSQL, 34)
	const drones = 20
	n := 0
	args := func() []string {
		n++
		id := fmt.Sprintf("b-%d", n)
		one := func(s string) string { return "'{" + s + "}'" }
		return []string{
			one(`""`), one("key-" + id), one(`""`), one(id), "'{true}'", "'{1}'", one(`""`), one(`""`), "'{0}'", "'{0}'", one("x"), one(`""`),
			"'{}'", "'{}'", "'{}'", "'{}'", "'{}'", "'{}'", "'{}'", "'{dr-1}'", "'{s-1}'", "20", "60", "'{f}'", "'{room}'", one(`""`), "'{room}'", "'{7}'", "'{0}'", "'{f}'", "'{0}'", one(`""`), "'{f}'", one(`""`),
		}
	}
	blocks := func(live int) map[string]int {
		d.fill(drones, live, 0)
		d.exec(`update session set ready = true, heard_at = now()`)
		d.exec(`vacuum analyze`)
		cost := make(map[string]int)
		note := func(what string, p *plan) {
			if strings.Contains(p.String(), "Seq Scan") {
				t.Errorf("%s reads a whole table:\n%s", what, p)
			}
			cost[what] = p.Hit + p.Read
		}
		for range 2 { // the first fills caches
			note("placeable", placeable.explain("20"))
			note("place again", place.explain("'{l-1}'", "'{dr-2}'", "'{s-1}'", "'{x}'", "20"))
			note("spawn", spawn.explain(args()...))
		}
		return cost
	}
	few := blocks(40)
	many := blocks(testkit.Sized(t, 5000, 20_000))
	for what, cost := range many {
		// Indexes are a level or two higher.
		if cost > few[what]+few[what]/2+24 {
			t.Errorf("%s touches %d blocks, and %d where few live", what, cost, few[what])
		}
	}
}

// What a worker has placed itself counts until the drone speaks, also over a new look at the drones, and not longer.
func TestPicksCountUntilTheDroneSpeaks(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.roomy("dr-a", messages.Capacity{MaxBackends: 3})
	first := func(int) int { return 0 }
	look := func(before *placement.Snapshot) *placement.Snapshot {
		t.Helper()
		drones, err := d.PlaceableDrones(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return placement.NewSnapshot(drones, before)
	}
	room := func(s *placement.Snapshot) (n int) {
		var picked []*placement.Drone
		for {
			drone, ok := s.Pick(placement.Want{Cluster: cluster}, 2, first)
			if !ok {
				break
			}
			picked = append(picked, drone)
		}
		for _, drone := range picked {
			s.GiveBack(drone, "")
		}
		return len(picked)
	}
	s := look(nil)
	s.Pick(placement.Want{Cluster: cluster}, 2, first)
	for range 3 {
		if s = look(s); room(s) != 2 {
			t.Fatalf("it has room for %d after one of three was placed", room(s))
		}
	}
	d.promise("dr-a", messages.Load{Backends: 1}) // which it counts itself from now on
	if s = look(s); room(s) != 2 {
		t.Errorf("it has room for %d after it said that it has one of three", room(s))
	}
	s.Pick(placement.Want{Cluster: cluster}, 2, first)
	d.promise("dr-a", messages.Load{Backends: 0})
	if s = look(s); room(s) != 3 {
		t.Errorf("it has room for %d after it said that it has none", room(s))
	}
	// A statement does not give more than the drone has said that it takes.
	d.promise("dr-a", messages.Load{Backends: 3})
	if got, _ := d.connect(want("k", "b-1", "dr-a")); got[0].Result != lease.Unheld {
		t.Errorf("a full drone was given %+v", got[0])
	}
}
