package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
)

// plan is a node of what explain gives.
type plan struct {
	Node    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Table   string  `json:"Relation Name"`
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Filter  string
	Hit     int `json:"Shared Hit Blocks"`
	Read    int `json:"Shared Read Blocks"`
	Plans   []plan
}

func (p *plan) walk(visit func(*plan)) {
	visit(p)
	for i := range p.Plans {
		p.Plans[i].walk(visit)
	}
}

// String is the plan for reading, with -v.
func (p *plan) String() string {
	line := fmt.Sprintf("%s %s %s rows=%v loops=%v\n", p.Node, p.Table, p.Index, p.Rows, p.Loops)
	for i := range p.Plans {
		line += "  " + strings.ReplaceAll(strings.TrimSuffix(p.Plans[i].String(), "\n"), "\n", "\n  ") + "\n"
	}
	return line
}

// explainer runs a statement as the store does: prepared once, while the tables are
// empty, and planned for any arguments.
type explainer struct {
	t    *testing.T
	conn *pgx.Conn
}

func newExplainer(t *testing.T, d *db, sql string, args int) *explainer {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), d.raw.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	e := &explainer{t, conn}
	e.exec("set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off")
	e.exec("prepare it as " + sql)
	e.explain(make([]string, args)...)
	return e
}

func (e *explainer) exec(sql string) {
	e.t.Helper()
	if _, err := e.conn.Exec(context.Background(), sql); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
}

// explain executes the statement and gives its plan; args are literals.
func (e *explainer) explain(args ...string) *plan {
	e.t.Helper()
	for i := range args {
		if args[i] == "" {
			args[i] = "null"
		}
	}
	var text string
	err := e.conn.QueryRow(context.Background(), "explain (analyze, buffers, format json) execute it ("+strings.Join(args, ", ")+")",
		pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		e.t.Fatal(err)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		e.t.Fatal(err)
	}
	return &plans[0].Plan
}

// wantWalk wants a table's due rows to be found by one walk along an index, and no node
// to look at more rows than there is to do.
func wantWalk(t *testing.T, p *plan, index string, most float64) {
	t.Helper()
	walks := 0
	p.walk(func(n *plan) {
		if n.Index == index {
			walks++
			if n.Node != "Index Scan" {
				t.Errorf("%s is used by %s", index, n.Node)
			}
		}
		if n.Node == "Seq Scan" || n.Rows*n.Loops+n.Removed*n.Loops > most {
			t.Errorf("%s of %s %s looks at %v rows, %v times, and drops %v", n.Node, n.Table, n.Index, n.Rows, n.Loops, n.Removed)
		}
	})
	if walks != 1 {
		t.Errorf("%s is walked along %d times", index, walks)
	}
}

const (
	fewDrones   = 10
	fewBackends = 40
)

func manyDrones(t testing.TB) int {
	t.Helper()
	return testkit.Sized(t, 200, 2000)
}

func manyBackends(t testing.TB) int {
	t.Helper()
	return testkit.Sized(t, 2000, 20_000)
}

// fill makes drones and backends, live ones that are due only later, and ended ones.
func (d *db) fill(drones, live, ended int) {
	d.t.Helper()
	d.exec(`insert into drone (name, cluster, pool, session, runtime, version, max_backends)
		select 'dr-' || i, 'c', '', 's-1', '', '', 0 from generate_series(1, $1::int) i on conflict do nothing`, drones)
	d.exec(`insert into session (drone, id, machine_id, boot_id, home, drone_time_ms, expires_at, due_at)
		select 'dr-' || i, 's-1', 'm', 'b', '', 0, now() + interval '1 minute', now() + interval '1 minute'
		from generate_series(1, $1::int) i on conflict do nothing`, drones)
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at, due_at)
		select case when i > $1 then 'e-' else 'l-' end || i, '', i::text, '', 'c', '', 'dr-' || 1 + i % $3::int, 's-1',
			case when i > $1 then 70 else 50 end, case when i > $1 then now() end, now() + interval '1 minute'
		from generate_series(1, $1::int + $2::int) i on conflict do nothing`, live, ended, drones)
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token)
		select '', id, '', id, 1 from backend where ended_at is null on conflict do nothing`)
}

// What a sweep costs depends on what is due, not on how much there is: by the plan that was
// made when there was nothing, and by one made since.
func TestI8SweepIsOneWalkAlongTheIndexHoweverMuchThereIs(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	e := newExplainer(t, d, store.SweepSQL, 7)
	blocks := func(due string, most float64) int {
		d.exec(`update backend set due_at = now() where ` + due)
		p := e.explain("128", "600", "10", "15", "5", "'infinity'", "60")
		wantWalk(t, p, "backend_due", most)
		t.Logf("due: %s: %d blocks\n%s", due, p.Hit+p.Read, p)
		return p.Hit + p.Read
	}
	const three = `id in ('l-1', 'l-2', 'l-3')`
	d.fill(fewDrones, fewBackends, fewBackends)
	few := blocks(three, 20)
	d.fill(manyDrones(t), manyBackends(t), manyBackends(t))
	for _, plan := range []string{"old", "new"} {
		if many := blocks(three, 20); many > 2*few {
			t.Errorf("with an %s plan a sweep of 3 backends touches %d blocks, and %d where there are few", plan, many, few)
		}
		blocks(`ended_at is null`, 128*128) // a full batch; others are due too
		d.exec(`update backend set due_at = now() + interval '1 minute' where ended_at is null`)
		d.exec(`vacuum analyze`)
	}
}

func TestI8LostDronesAreFoundAlongTheIndexHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	e := newExplainer(t, d, store.ExpireSQL, 3)
	blocks := func() int {
		d.exec(`update session set due_at = now() where drone in ('dr-1', 'dr-2', 'dr-3')`)
		p := e.explain("'infinity'", "128", "'io.jetway.drone.v1.lost'")
		wantWalk(t, p, "session_due", 20)
		t.Logf("%d blocks\n%s", p.Hit+p.Read, p)
		return p.Hit + p.Read
	}
	d.fill(fewDrones, 0, 0)
	few := blocks()
	d.fill(manyDrones(t), 0, 0)
	for _, plan := range []string{"old", "new"} {
		if many := blocks(); many > 2*few {
			t.Errorf("with an %s plan a look at 3 drones touches %d blocks, and %d where there are few", plan, many, few)
		}
		d.exec(`vacuum analyze`)
	}
}

// What is asked of one drone must not look at the backends of all, by plans that were made
// when there were none.
func TestI8DronesAndTheirBackendsAreLookedUpAndNotSearchedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		args []string
		most float64
	}{
		"placeable": {store.PlaceableSQL, []string{"20"}, float64(4 * manyDrones(t))},
		"drones":    {store.DronesSQL, []string{"'dr-1'", "5"}, 100},
		"heartbeat": {store.HeartbeatSQL, []string{"'dr-1'", "'s-1'", "true", "1", "2", "3", "4", "60", "'infinity'", "''", "'[]'"}, 4},
		"forgotten": {store.RetainSQL["drone_lost"], []string{"500", "3600"}, float64(2 * manyBackends(t))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newRunningDB(t)
			e := newExplainer(t, d, c.sql, len(c.args))
			d.fill(manyDrones(t), manyBackends(t), 0)
			d.exec(`update session set ready = true`)
			d.exec(`update drone set lost_at = case when $1 then now() - interval '1 day' end`, name == "forgotten")
			p := e.explain(c.args...)
			looked := 0.0
			p.walk(func(n *plan) {
				if n.Table != "" {
					looked += (n.Rows + n.Removed) * n.Loops
				}
			})
			if looked > c.most {
				t.Errorf("it looks at %v rows, want at most %v:\n%s", looked, c.most, p)
			}
		})
	}
}

// What a drone and its backends do while they live must not cost an index entry each time.
func TestI8HeartbeatsAndKeepalivesChangeNoIndex(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	updates := d.counting()
	was, wasCold := map[string]int{}, map[string]int{}
	for _, table := range []string{"session", "connection", "proxy"} {
		was[table], wasCold[table] = updates(table)
	}
	for range 5 {
		d.renew("dr-a", session, "b-1")
		if err := d.Keepalive(t.Context(), "px-a", []string{"b-1"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for table := range was {
		if all, cold := updates(table); cold != wasCold[table] || all < was[table]+4 {
			t.Errorf("%d of %d updates of %s changed its indexes", cold-wasCold[table], all-was[table], table)
		}
	}
}
