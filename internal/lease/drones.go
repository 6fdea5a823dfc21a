package lease

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// snapshotFor is how long a snapshot of the drones serves. Between two of them
// the snapshot counts what this worker itself places; what other workers place
// and which drones come is seen this much later. A drone that went is noticed at
// once by the statement that takes the lease.
const snapshotFor = time.Second

// choices is how many random drones are compared for the least loaded: with two, none falls far behind.
const choices = 2

// drones keeps the snapshot that placement picks from.
type drones struct {
	store Store

	mu       sync.Mutex
	snapshot *placement.Snapshot
	taken    time.Time
	stale    bool // the next pick looks again
	// fleet is what was known when somebody first asked why there is none in the snapshot; nil: nobody has.
	fleet []placement.Group
}

// pick gives a drone for what is wanted by a batch that began at a time, or
// an error of kind NoDroneAvailable when there is none, which only a look since then can say.
func (d *drones) pick(ctx context.Context, want placement.Want, began time.Time) (*placement.Drone, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.snapshot == nil || d.stale || began.Sub(d.taken) > snapshotFor {
			list, err := d.store.PlaceableDrones(ctx)
			if err != nil {
				return nil, err
			}
			d.snapshot, d.taken, d.stale, d.fleet = placement.NewSnapshot(list, d.snapshot), time.Now(), false, nil
		}
		drone, ok := d.snapshot.Pick(want, choices, rand.IntN)
		if ok {
			return drone, nil
		}
		if !d.taken.Before(began) {
			return nil, d.none(ctx, want.Cluster, want.Pool)
		}
		d.stale = true
	}
}

// none says why there is no drone. It is asked at most once for each snapshot, however many want to know.
func (d *drones) none(ctx context.Context, cluster, pool string) error {
	if d.fleet == nil {
		fleet, err := d.store.Fleet(ctx)
		if err != nil {
			return err
		}
		d.fleet = append([]placement.Group{}, fleet...)
	}
	reason, text := placement.None(d.fleet, cluster, pool)
	refusal := messages.Errorf(messages.NoDroneAvailable, "%s", text)
	refusal.Reason = string(reason)
	return refusal
}

// giveBack takes a pick back that came to nothing.
func (d *drones) giveBack(drone *placement.Drone, spawn *Spawn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshot.GiveBack(drone, spawn.Body.Template.NameOf())
}

// forget makes the next pick look again.
func (d *drones) forget() {
	d.mu.Lock()
	d.stale = true
	d.mu.Unlock()
}
