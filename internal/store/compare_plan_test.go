package store_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// manyNamed are the backends of the drone that registers, manyOthers all others'.
func manyNamed(t testing.TB) int {
	t.Helper()
	return testkit.Sized(t, 1000, messages.MaxNamed)
}

func manyOthers(t testing.TB) int {
	t.Helper()
	return testkit.Sized(t, 6000, 92_000)
}

// eachName is a filter that compares a row with each name.
var eachName = regexp.MustCompile(`\bid (=|<>) (ANY|ALL)`)

// full gives dr-1 as many live backends as one registration names, among those of other drones, and gives their names
// and the same as a literal.
func (d *db) full() (ids []string, literal string) {
	d.t.Helper()
	d.fill(50, manyOthers(d.t), 0)
	d.exec(`delete from backend where drone = 'dr-1'`)
	ids = make([]string, manyNamed(d.t))
	for i := range ids {
		ids[i] = fmt.Sprintf("b-%d", i)
	}
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, changed_at, due_at)
		select id, '', id, '', 'c', '', 'dr-1', 's-1', 50, now() - interval '1 hour', 'infinity' from unnest($1::text[]) id`, ids)
	return ids, "'{" + strings.Join(ids, ",") + "}'"
}

// I8: to compare a drone's backends with the names that it gives is to look at each once: by plans that were made while the
// tables were empty, with statistics and without. Found by measuring: each was compared with each, 0.4 s for 8,000.
func TestI8ComparingARegistrationLooksAtEachBackendOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		args []string // the names are %
	}{
		"compare": {store.CompareSQL, []string{"'dr-1'", "%", "'{s-0}'", "'s-1'", "60"}},
		"adopt":   {store.AdoptSQL, []string{"'dr-1'", "'s-2'", "%", "'{s-1}'"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t)
			d.exec(`alter table backend set (autovacuum_enabled = off)`)
			e := newExplainer(t, d, c.sql, len(c.args))
			_, literal := d.full()
			args := slices.Clone(c.args)
			args[slices.Index(args, "%")] = literal
			for _, when := range []string{"made while there was nothing", "made with statistics", "made for these names"} {
				d.exec(`update backend set session = 's-1' where drone = 'dr-1'`)
				p := e.explain(args...)
				t.Logf("%s, by a plan %s: %d blocks\n%s", name, when, p.Hit+p.Read, p)
				p.walk(func(n *plan) {
					// A filter is asked for each row; a condition of an index, or of a join, is not. Entries of rows that are gone count too.
					if n.Node == "Seq Scan" || (n.Rows+n.Removed)*n.Loops > 3*float64(manyNamed(t)) || eachName.MatchString(n.Filter) {
						t.Errorf("by a plan %s, %s of %s %s looks at %v rows, %v times, and drops %v: %.80s", when, n.Node, n.Table, n.Index, n.Rows, n.Loops, n.Removed, n.Filter)
					}
				})
				d.exec(`vacuum analyze`)
				if when == "made with statistics" {
					e.exec(`set plan_cache_mode = force_custom_plan`)
				}
			}
		})
	}
}
