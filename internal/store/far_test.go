package store_test

import (
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// I6: a worker that is far from its database finds drones that are lost, too. A look took longer than a
// twenty-fourth of a lease's time, and was thrown away: nothing ever expired for such a worker.
func TestI6WorkerFarFromItsDatabaseFindsWhatIsLost(t *testing.T) {
	t.Parallel()
	primary := pgtest.Cluster(t)
	d := newDBAt(t, pgtest.Database(t))
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	way := testkit.NewFaultProxy(t, primary.TCPAddr())
	const ttl = 4 * time.Second
	if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: ttl}); err != nil {
		t.Fatal(err)
	}
	far := openWith(t, at(way.Addr())+" dbname="+one[string](d, `select current_database()`), lease.Terms{TTL: ttl})
	way.Delay(ttl / 24 * 11 / 20)                                                                        // and back
	testkit.Eventually(t, "it finds the tables", func() bool { return far.Migrate(t.Context()) == nil }) // a slow machine's link may be too slow even for it
	d.expireSession("dr-a")
	d.Store = far
	testkit.Eventually(t, "the drone is lost", func() bool {
		d.lookAtTheClock()
		names, _ := d.lostDrones()
		return len(names) == 1
	})
}
