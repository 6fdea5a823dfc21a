package lease

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/placement"
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
}

// pick gives a drone of the cluster and pool for a batch that began at a time, or
// nil when there is none, which only a look since then can say.
func (d *drones) pick(ctx context.Context, cluster, pool string, began time.Time) (*placement.Drone, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.snapshot == nil || d.stale || began.Sub(d.taken) > snapshotFor {
			list, err := d.store.PlaceableDrones(ctx)
			if err != nil {
				return nil, err
			}
			d.snapshot, d.taken, d.stale = placement.NewSnapshot(list, d.snapshot), time.Now(), false
		}
		drone, ok := d.snapshot.Pick(cluster, pool, choices, rand.IntN)
		if ok {
			return drone, nil
		}
		if !d.taken.Before(began) {
			return nil, nil
		}
		d.stale = true
	}
}

// giveBack takes a pick back that came to nothing.
func (d *drones) giveBack(drone *placement.Drone) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshot.GiveBack(drone)
}

// forget makes the next pick look again.
func (d *drones) forget() {
	d.mu.Lock()
	d.stale = true
	d.mu.Unlock()
}
