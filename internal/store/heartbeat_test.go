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
	// A session that is idle says within ten seconds what it has done, and one that ends says it before it is gone.
	d.Close()
	d.Store, d.raw = store.WithPool(d.Store, pool), pool
	testkit.Eventually(d.t, "all other sessions have ended", func() bool {
		return one[int](d, `select count(*) from pg_stat_activity
			where datname = current_database() and backend_type = 'client backend' and application_name <> 'testkit' and pid <> pg_backend_pid()`) == 0
	})
	return func(table string) (all, cold int) {
		d.exec(`select pg_stat_force_next_flush()`)
		return one[int](d, `select n_tup_upd from pg_stat_user_tables where relname = $1`, table),
			one[int](d, `select n_tup_upd - n_tup_hot_upd from pg_stat_user_tables where relname = $1`, table)
	}
}

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
	updates := d.counting()
	versions := func(table string) int {
		return one[int](d, `select count(distinct xmin::text) from `+table)
	}
	was := versions("lease") + versions("backend")
	before, coldBefore := updates("session")
	for range 4 {
		if renewed := d.renew("dr-a", session, ids[0], ids[len(ids)-1]); len(renewed) != 2 {
			t.Fatalf("renewed %v", renewed)
		}
	}
	if all, cold := updates("session"); all != before+4 || cold != coldBefore {
		t.Errorf("4 heartbeats updated %d rows, %d of them with their indexes", all-before, cold-coldBefore)
	}
	if now := versions("lease") + versions("backend"); now != was {
		t.Errorf("renewals wrote keys or backends: of %d transactions, before %d", now, was)
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

// BenchmarkComparison says what it costs to compare all that a drone holds.
func BenchmarkComparison(b *testing.B) {
	for _, n := range []int{1, 1000, messages.MaxNamed} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDB(b)
			d.drone("dr-a")
			ids := d.held("dr-a", n)
			for b.Loop() {
				if done, err := d.Register(b.Context(), "dr-a", registration("dr-a", session, ids...)); err != nil || len(done.Lost) > 0 {
					b.Fatal(len(done.Lost), err)
				}
			}
		})
	}
}
