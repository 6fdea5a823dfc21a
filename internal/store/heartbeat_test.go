package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

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
	for _, table := range []string{"lease", "backend"} { // while one is analyzed, no room is made in pages
		d.exec(`alter table ` + table + ` set (autovacuum_enabled = false)`)
	}
	ids := d.held("dr-a", messages.MaxNamed)
	size := func() int {
		return one[int](d, `select sum(pg_relation_size(indexrelid))::int from pg_index where indrelid = 'lease'::regclass`)
	}
	sizes := make([]int, 4)
	for i := range sizes {
		if renewed := d.renew("dr-a", session, ids...); len(renewed) != len(ids) {
			t.Fatalf("%d of %d were renewed", len(renewed), len(ids))
		}
		sizes[i] = size()
	}
	if n := one[int](d, `select count(*) from (select xmin::text from lease union select xmin::text from drone) x`); n != 1 {
		t.Errorf("%d transactions wrote the leases and the drone", n)
	}
	// The first one makes room in full pages; the others find it.
	if first, last := sizes[0], sizes[len(sizes)-1]; last != first {
		t.Errorf("renewals made the leases' indexes grow from %d to %d bytes", first, last)
	}
	if n := one[int](d, `select count(*) from lease where expires_at < now() + interval '55 seconds'`); n > 0 {
		t.Errorf("%d leases were not put off", n)
	}
}

// BenchmarkHeartbeat says what a heartbeat costs for each backend of a drone.
func BenchmarkHeartbeat(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, messages.MaxNamed} {
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
