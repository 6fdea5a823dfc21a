package store_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// counting has all statements of the store run in one session from now on, and gives what
// says how many rows of a table that session has updated, and how many of those with an entry in each index.
func (d *db) counting() (updates func(table string) (all, cold int)) {
	d.t.Helper()
	cfg := d.raw.Config()
	cfg.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(pool.Close)
	d.Store, d.raw = store.WithPool(d.Store, pool), pool
	return func(table string) (all, cold int) {
		d.exec(`select pg_stat_force_next_flush()`)
		return one[int](d, `select n_tup_upd from pg_stat_user_tables where relname = $1`, table),
			one[int](d, `select n_tup_upd - n_tup_hot_upd from pg_stat_user_tables where relname = $1`, table)
	}
}

// held gives a drone n backends with leases, and their ids.
func (d *db) held(drone string, n int) (ids []string) {
	d.t.Helper()
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token, expires_at)
		select '', 'k-' || i, '', 'b-' || i, i, now() + interval '1 minute' from generate_series(1, $1::int) i`, n)
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status)
		select 'b-' || i, '', 'k-' || i, '', 'c.test', '', $2, $3, 50 from generate_series(1, $1::int) i`, n, drone, session)
	d.exec(`vacuum analyze lease`)
	for i := range n {
		ids = append(ids, fmt.Sprintf("b-%d", i+1))
	}
	return ids
}

// The demand: a heartbeat is the same however many backends a drone has: one transaction,
// which touches no index.
func TestHeartbeatOfThousandsIsOneTransaction(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	ids := d.held("dr-a", messages.MaxRenewals)
	updates := d.counting()
	// The first one makes room in full pages, and so does the next where another session, such
	// as one that looks whether the database is there, may still see what was there before.
	testkit.Eventually(t, "a renewal touches no index", func() bool {
		before, cold := updates("lease")
		if renewed := d.renew("dr-a", session, ids...); len(renewed) != len(ids) {
			t.Fatalf("%d of %d were renewed", len(renewed), len(ids))
		}
		all, coldNow := updates("lease")
		if all-before != len(ids) {
			t.Fatalf("%d updates are counted of %d", all-before, len(ids))
		}
		return coldNow == cold
	})
	if n := one[int](d, `select count(*) from (select xmin::text from lease union select xmin::text from drone) x`); n != 1 {
		t.Errorf("%d transactions wrote the leases and the drone", n)
	}
	if n := one[int](d, `select count(*) from lease where expires_at < now() + interval '55 seconds'`); n > 0 {
		t.Errorf("%d leases were not put off", n)
	}
}

// BenchmarkHeartbeat says what a heartbeat costs for each backend of a drone.
func BenchmarkHeartbeat(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, messages.MaxRenewals} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDB(b)
			d.drone("dr-a")
			ids := d.held("dr-a", n)
			for b.Loop() {
				if renewed := d.renew("dr-a", session, ids...); len(renewed) != n {
					b.Fatalf("%d of %d were renewed", len(renewed), n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/backend")
		})
	}
}
