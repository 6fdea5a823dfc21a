package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// listed makes live backends of dr-1 to dr-10 in turns, and ended ones around them.
func (d *db) listed(live, ended int) {
	d.t.Helper()
	d.exec(fmt.Sprintf(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status)
		select 'b-' || lpad((i * 7919)::text, 12, '0') || '-live', '', 'k-' || i, '', 'c', '', 'dr-' || i %% 10 + 1, 's-1', 50 from generate_series(1, %d) i`, live))
	d.exec(fmt.Sprintf(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
		select 'b-' || lpad((i * 101)::text, 12, '0'), '', 'k-' || i, '', 'c', '', 'dr-' || i %% 10 + 1, 's-1', 70, now() from generate_series(1, %d) i`, ended))
}

// What a page of live backends costs depends on its rows, however many have ended.
func TestI8AListingOfLiveBackendsWalksLiveOnesOnly(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	e := newExplainer(t, d, store.LiveSQL, 2)
	d.listed(2000, 20_000)
	d.exec("analyze backend")
	p := e.explain(`'b-0'`, "100")
	t.Logf("%d blocks\n%s", p.Hit+p.Read, p)
	wantWalk(t, p, "backend_live_by_id", 101)
	// Also by a plan that is made now.
	e.exec("set plan_cache_mode = force_custom_plan; reset enable_seqscan")
	wantWalk(t, e.explain(`'b-0'`, "100"), "backend_live_by_id", 101)

	// One drone's: as many as it has.
	e = newExplainer(t, d, store.LiveOfSQL, 3)
	for _, setting := range []string{"set enable_seqscan = off", "set plan_cache_mode = force_custom_plan; reset enable_seqscan"} {
		e.exec(setting)
		p = e.explain(`'b-0'`, "100", `'dr-3'`)
		t.Logf("%d blocks\n%s", p.Hit+p.Read, p)
		p.walk(func(n *plan) {
			if n.Node == "Seq Scan" || (n.Rows+n.Removed)*n.Loops > 200 {
				t.Errorf("%s of %s %s looks at %v rows, %v times, and drops %v", n.Node, n.Table, n.Index, n.Rows, n.Loops, n.Removed)
			}
		})
	}
}

// Also where nearly all that a page looks at is not wanted, it looks at a bounded number of rows, and says where to go on.
func TestI8APageOfOneDronesBackendsLooksAtABoundedNumberOfRows(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.listed(100, 25_000)
	d.exec(`update backend set drone = 'dr-rare' where id = (select max(id) from backend where ended_at is not null)`)
	for _, c := range []struct {
		r     messages.BackendsRequest
		where string
		most  int // pages
	}{
		{messages.BackendsRequest{}, `ended_at is null`, 2},
		{messages.BackendsRequest{Drone: "dr-3"}, `ended_at is null and drone = 'dr-3'`, 1},
		{messages.BackendsRequest{All: true, Drone: "dr-rare"}, `drone = 'dr-rare'`, 3},
		{messages.BackendsRequest{All: true, Drone: "dr-3"}, `drone = 'dr-3'`, 15},
		{messages.BackendsRequest{All: true}, `true`, 126},
		{messages.BackendsRequest{All: true, Drone: "dr-none"}, `false`, 3},
	} {
		want := one[[]string](d, `select coalesce(array_agg(id order by id), '{}') from backend where `+c.where)
		c.r.Limit = messages.MaxPage
		var got []string
		pages := 0
		for {
			page, err := d.Backends(t.Context(), &c.r)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page.Backends {
				got = append(got, page.Backends[i].BackendID)
			}
			if pages++; page.Next == "" || pages > len(want)+10 {
				break
			}
			c.r.After = page.Next
		}
		if !slices.Equal(got, want) || pages > c.most {
			t.Errorf("%+v gives %d of %d backends in %d pages, at most %d were wanted", c.r, len(got), len(want), pages, c.most)
		}
	}
}
