package placement_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/placement"
)

// The demand: of the drones that are compared, one that has a spare of the template which was not handed out since it spoke is picked before one that has
// none, however loaded, and the less loaded of several; who asks for no template gets the less loaded. What came to nothing is a spare again.
func TestPickPrefersDronesWithSpares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		drones := make([]placement.Drone, rapid.IntRange(1, 6).Draw(t, "drones"))
		left := make(map[string]int) // spares of room, by drone
		for i := range drones {
			drones[i] = placement.Drone{
				Name: fmt.Sprintf("dr-%d", i), Session: fmt.Sprintf("s-%d", i), Backends: rapid.IntRange(0, 4).Draw(t, "backends"),
				Spares: map[string]int{"room": rapid.IntRange(0, 3).Draw(t, "spares"), "other": 9},
			}
			left[drones[i].Name] = drones[i].Spares["room"]
		}
		s := placement.NewSnapshot(drones, nil)
		random := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "random") }
		for range rapid.IntRange(1, 12).Draw(t, "picks") {
			template := rapid.SampledFrom([]string{"", "room", "unknown"}).Draw(t, "template")
			spare := func(d *placement.Drone) bool { return template == "room" && left[d.Name] > 0 }
			best := drones[0]
			for i := range drones {
				if d := &drones[i]; spare(d) != spare(&best) && spare(d) || spare(d) == spare(&best) && d.Backends < best.Backends {
					best = *d
				}
			}
			d, ok := s.Pick(placement.Want{Template: template}, len(drones), random)
			if !ok || spare(d) != spare(&best) || d.Backends-1 != best.Backends {
				t.Fatalf("for %q %+v was picked, not %+v", template, *d, best)
			}
			if rapid.IntRange(0, 3).Draw(t, "give back") == 0 {
				s.GiveBack(d, template)
				continue
			}
			if template == "room" {
				left[d.Name]--
			}
			if rapid.IntRange(0, 3).Draw(t, "look again") > 0 {
				continue
			}
			// A new look finds what the drones said before, and what was handed out since counts on.
			for i := range drones {
				drones[i].Backends -= s.Given(&drones[i])
			}
			s = placement.NewSnapshot(drones, s)
		}
	})
}
