package store_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// I8: a listing looks at a bounded number of rows a page, whatever it is to leave out, and leaves out nothing else.
func TestI8FilteredListings(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.listed(100, 25_000)
	d.exec(`update backend set namespace = 'team', changed_at = now() - interval '1 hour' where name = 'k-7'`)
	d.exec(`update backend set status = 60 where id = (select min(id) from backend where ended_at is null)`)
	ready, hour := []messages.Status{messages.Ready}, int64(1800)
	for what, c := range map[string]struct {
		r     messages.BackendsRequest
		where string
		most  int // pages
	}{
		"a key":                  {messages.BackendsRequest{Key: &messages.Key{Name: "k-7", Namespace: "team"}, All: true}, `name = 'k-7'`, 4},
		"a key that runs":        {messages.BackendsRequest{Key: &messages.Key{Name: "k-7", Namespace: "team"}}, `name = 'k-7' and ended_at is null`, 1},
		"a key elsewhere":        {messages.BackendsRequest{Key: &messages.Key{Name: "k-7"}, All: true}, `false`, 4},
		"a namespace":            {messages.BackendsRequest{Namespace: new("team"), All: true}, `namespace = 'team'`, 4},
		"the default namespace":  {messages.BackendsRequest{Namespace: new("")}, `namespace = '' and ended_at is null`, 2},
		"a status":               {messages.BackendsRequest{Statuses: ready}, `status = 50`, 2},
		"the status of a drone":  {messages.BackendsRequest{Statuses: ready, Drone: "dr-3"}, `status = 50 and drone = 'dr-3'`, 1},
		"two statuses":           {messages.BackendsRequest{Statuses: append(ready, messages.Terminating)}, `ended_at is null`, 2},
		"what is new":            {messages.BackendsRequest{ChangedWithinSeconds: &hour}, `ended_at is null and changed_at > now() - interval '30 min'`, 2},
		"what is new, and ended": {messages.BackendsRequest{ChangedWithinSeconds: &hour, All: true, Drone: "dr-1"}, `drone = 'dr-1' and changed_at > now() - interval '30 min'`, 16},
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
			t.Errorf("%s: %d of %d backends in %d pages, at most %d were wanted", what, len(got), len(want), pages, c.most)
		}
	}
	// Of those that run it looks at no others.
	e := newExplainer(t, d, store.LiveFilteredSQL, 8)
	wantWalk(t, e.explain(`'b-0'`, "100", `'~'`, "null", "null", "null", "null", "null"), "backend_live_by_id", 101)
}
