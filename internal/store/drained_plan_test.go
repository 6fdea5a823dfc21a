package store_test

import (
	"testing"

	"github.com/jetway-project/jetway/internal/store"
)

// I8: who looks for backends whose drones are to be drained looks at the drones, and at what lives on those alone: not at what has
// ended there, nor at what lives elsewhere, by plans that were made while there was nothing and by those made since.
func TestI8DrainedBackendsAreFoundByTheirDronesHoweverManyHaveEnded(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	e := newExplainer(t, d, store.DrainedSQL, 2)
	const drained = 3
	look := func(when string) (blocks int) {
		t.Helper()
		p := e.explain("128", "'infinity'")
		t.Logf("%s: %d blocks\n%s", when, p.Hit+p.Read, p)
		found := 0.0
		p.walk(func(n *plan) {
			if n.Table == "b" || n.Table == "backend" {
				found += n.Rows * n.Loops
				if n.Node == "Seq Scan" || n.Index != "" && n.Index != "backend_live" || (n.Rows+n.Removed)*n.Loops > drained {
					t.Errorf("%s, %s of %s %s looks at %v rows, %v times, and drops %v", when, n.Node, n.Table, n.Index, n.Rows, n.Loops, n.Removed)
				}
			}
		})
		if found != drained {
			t.Errorf("%s, %v backends are found by their drones, want %d", when, found, drained)
		}
		return p.Hit + p.Read
	}
	d.fill(fewDrones, fewBackends, fewBackends)
	d.exec(`insert into drone (name, cluster, pool, session, runtime, version, max_backends, draining, drain_ends_at)
		values ('dr-x', 'c', '', 's-1', '', '', 0, true, now())`)
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status)
		select 'x-' || i, '', 'x-' || i, '', 'c', '', 'dr-x', 's-1', 50 from generate_series(1, $1::int) i`, drained)
	few := look("with few, by the plan made while there was nothing")
	d.fill(fewDrones, manyBackends(t), manyBackends(t))
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
		select 'y-' || i, '', 'y-' || i, '', 'c', '', 'dr-x', 's-1', 70, now() from generate_series(1, $1::int) i`, manyBackends(t))
	for _, when := range []string{"with many, by that plan", "with many, by a new plan"} {
		if many := look(when); many > 2*few+20 {
			t.Errorf("%s, it touches %d blocks, and %d with few", when, many, few)
		}
		d.exec(`vacuum analyze`)
	}
}
