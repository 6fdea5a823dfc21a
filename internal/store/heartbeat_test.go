package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// held gives a drone n backends with leases, and their ids.
func (d *db) held(drone string, n int) (ids []string) {
	d.t.Helper()
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token)
		select '', 'k-' || i, '', 'b-' || i, i from generate_series(1, $1::int) i`, n)
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, fencing_token, status, due_at)
		select 'b-' || i, '', 'k-' || i, '', 'c.test', '', $2, $3, i, 50, 'infinity' from generate_series(1, $1::int) i`, n, drone, session)
	d.exec(`vacuum analyze lease`)
	for i := range n {
		ids = append(ids, fmt.Sprintf("b-%d", i+1))
	}
	return ids
}

// The demand: a heartbeat is the same however many backends a drone has: it writes one row, and
// touches no index.
func TestHeartbeatOfThousandsWritesOneRow(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	ids := d.held("dr-a", messages.MaxNamed)
	look := func() [2]int64 {
		d.exec(`select pg_stat_force_next_flush()`)
		return [2]int64{
			one[int64](d, `select coalesce(sum(n_tup_upd + n_tup_ins), 0)::int8 from pg_stat_xact_user_tables`),
			one[int64](d, `select sum(pg_relation_size(indexrelid))::int8 from pg_index where indrelid in ('session'::regclass, 'lease'::regclass)`),
		}
	}
	before := look()
	versions := func(table string) int {
		return one[int](d, `select count(distinct xmin::text) from `+table)
	}
	was := versions("lease") + versions("backend")
	for range 4 {
		if renewed := d.renew("dr-a", session, ids[0], ids[len(ids)-1]); len(renewed) != 2 {
			t.Fatalf("renewed %v", renewed)
		}
	}
	if now := versions("lease") + versions("backend"); now != was {
		t.Errorf("renewals wrote keys or backends: of %d transactions, before %d", now, was)
	}
	if after := look(); after[1] != before[1] {
		t.Errorf("renewals made the indexes grow from %d to %d bytes", before[1], after[1])
	}
	if !one[bool](d, `select expires_at > now() + interval '55 seconds' from session`) {
		t.Error("the lease was not put off")
	}
}

// BenchmarkHeartbeat says what a heartbeat costs, whatever the drone holds.
func BenchmarkHeartbeat(b *testing.B) {
	for _, n := range []int{1, 1000, messages.MaxNamed} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDB(b)
			d.drone("dr-a")
			d.held("dr-a", n)
			for b.Loop() {
				d.renew("dr-a", session)
			}
		})
	}
}
