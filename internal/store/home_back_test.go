package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// I1: an address leads workers that run to another database that is at home where it is and settled: a primary that was
// never fenced, after a failover that is undone, or a database that was given this one's name. Nobody gets a key there
// at once, for it does not know who holds it.
// Found by leading the address back to the old primary: a key that was spawned since was spawned again, beside the first.
func TestI1DatabaseThatTakesThePlaceOfAnotherIsNotBelieved(t *testing.T) {
	t.Parallel()
	old := newRunningDB(t)
	old.drone("dr-a")
	dsn := pgtest.Empty(t)
	d := newDBAt(t, dsn)
	d.drone("dr-a")
	d.lookAtTheClock()
	d.wantSettled("before", true)
	d.spawn("forgotten", "b-first", "dr-a")

	// Only the name changes: the sessions that open from then on are in the other database.
	here, there := one[string](d, `select current_database()`), one[string](old, `select current_database()`)
	for _, db := range []*db{old, d} {
		db.raw.Close()
	}
	old.Close()
	admin := raw(t, pgtest.Cluster(t).DSN())
	rename := func(from, to string) {
		testkit.Eventually(t, "nobody is in the database for long enough to rename it", func() bool {
			admin.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, from)
			_, err := admin.raw.Exec(t.Context(), fmt.Sprintf("alter database %s rename to %s", from, to))
			return err == nil
		})
	}
	rename(here, here+"_before")
	rename(there, here)
	t.Cleanup(func() { admin.exec("drop database " + here + "_before with (force)") })

	var got []lease.Got
	testkit.Eventually(t, "the store is in the other database", func() (done bool) {
		var err error
		got, _, err = d.Connect(t.Context(), []lease.Want{want("forgotten", "b-second", "dr-a")})
		return err == nil
	})
	if got[0].Result != lease.Unknown {
		t.Errorf("at once: %+v", got[0])
	}
	d.raw = raw(t, dsn).raw
	d.lookAtTheClock()
	d.lookAtTheClock()
	d.wantSettled("once it has been looked at", false)
	d.HomeWaited()
	d.lookAtTheClock()
	d.wantSettled("after a lease's time", true)
	// Who comes to it now, and who was there before, have seen the same.
	if err := store.Reconnect(t.Context(), d.Store); err != nil {
		t.Fatal(err)
	}
	d.lookAtTheClock()
	d.wantSettled("in use", true)
}
