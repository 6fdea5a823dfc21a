package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// keys lists all, page by page, as "name state".
func (d *db) keys(r messages.KeysRequest) (list []string) {
	d.t.Helper()
	for {
		page, err := d.Keys(d.t.Context(), &r)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(page.Keys) > r.Limit {
			d.t.Fatalf("a page of %d has %d", r.Limit, len(page.Keys))
		}
		for _, k := range page.Keys {
			list = append(list, strings.TrimPrefix(k.Key.Namespace+"/"+k.Key.Name, "/")+" "+string(k.State))
		}
		if page.Next == nil {
			return list
		}
		r.After = page.Next
	}
}

// The demand: keys are listed that live, sleep, are dormant or rest, by name, in pages, and found by namespace, beginning, part and state; what has merely ended is not.
func TestKeysAreListedByHowTheyStand(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.spawn("doc-live", "b-1", "dr-a")
	d.spawn("doc-asleep", "b-2", "dr-a")
	d.exec(`update backend set nap = 3, napped_at = now() where id = 'b-2'`)
	d.dormant("doc-dormant", "b-3")
	d.dormant("doc-over", "b-4")
	d.exec(`update lease set dormant_until = now() - interval '1 second' where name = 'doc-over'`)
	for i := range 3 {
		d.crash("doc-crash", fmt.Sprint("c-", i))
	}
	d.exec(`update lease set retry_at = now() + interval '5 minutes' where name = 'doc-crash'`) // it rests until all is looked at
	d.spawn("doc-ended", "b-5", "dr-a")
	d.transition(reported("b-5", messages.Terminated))
	d.spawn("x%_doc", "b-6", "dr-a")
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token) values ('team', 'doc', 'v', 'b-7', 1), ('tea', 'z', '', 'b-8', 1)`)

	all := []string{"doc-asleep asleep", "doc-crash backing-off", "doc-dormant dormant", "doc-live live", "x%_doc live", "tea/z live", "team/doc live"}
	none, team := "", "team"
	for _, c := range []struct {
		r    messages.KeysRequest
		want []string
	}{
		{messages.KeysRequest{}, all},
		{messages.KeysRequest{Namespace: &none}, all[:5]},
		{messages.KeysRequest{Namespace: &team}, all[6:]},
		{messages.KeysRequest{Namespace: &none, Prefix: "doc-d"}, all[2:3]},
		{messages.KeysRequest{Namespace: &none, Prefix: "doc-live"}, all[3:4]},
		{messages.KeysRequest{Prefix: "doc"}, slices.Concat(all[:4], all[6:])},
		{messages.KeysRequest{Search: "%_"}, all[4:5]},
		{messages.KeysRequest{Search: "doc-", States: []messages.KeyState{messages.KeyDormant, messages.KeyAsleep}}, []string{all[0], all[2]}},
		{messages.KeysRequest{States: []messages.KeyState{messages.KeyBackingOff}}, all[1:2]},
		{messages.KeysRequest{Search: "nothing"}, nil},
	} {
		for _, limit := range []int{1, 2, 200} {
			c.r.Limit = limit
			if got := d.keys(c.r); !slices.Equal(got, c.want) {
				t.Errorf("%+v: %v, want %v", c.r, got, c.want)
			}
		}
	}
	page, err := d.Keys(t.Context(), &messages.KeysRequest{Prefix: "doc-dormant", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	k := page.Keys[0]
	if k.BackendID != "b-3" || k.Status != messages.Terminated || k.DormantUntil == nil || k.Since.IsZero() || *k.ResumeSeconds != 3600 || k.Drone != "dr-a" || k.DormantUntil.Sub(k.Since).Hours() != 1 {
		t.Errorf("the dormant one is %+v", k)
	}
	if b := d.status("b-3"); b.DormantUntil == nil || !b.DormantUntil.Equal(*k.DormantUntil) || *b.ResumeSeconds != 3600 {
		t.Errorf("its last backend is %+v", b)
	}
}

// I8: a page of keys costs no more however many there are, and however many keys have merely ended.
func TestI8PageOfKeysDoesNotReadThemAll(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	page, end := newExplainer(t, d, store.KeysSQL, 8), newExplainer(t, d, store.KeysEndSQL, 5)
	many := testkit.Sized(t, 2000, 50_000)
	fill := func(from int) {
		d.exec(fmt.Sprintf(`insert into lease (namespace, name, tag, backend_id, fencing_token, released_at, dormant_until)
			select 'n' || i %% 3, 'k-' || i, '', 'b-' || i, i, case when i %% 2 = 0 then now() end, case when i %% 4 = 0 then now() + interval '1 hour' end
			from generate_series(%d, %d) i`, from+1, from+many))
	}
	fill(0)
	d.exec(`vacuum analyze lease`)
	blocks := func() (n int) {
		for _, p := range []*plan{
			page.explain(`'n1'`, `'k-1'`, `'n1'`, `'k-12'`, `''`, `''`, `null`, `20`),
			end.explain(`'n1'`, `'k-1'`, `50`, `'n1'`, `'l'`),
		} {
			if strings.Contains(p.String(), "Seq Scan on lease") {
				t.Errorf("it reads them all:\n%s", p)
			}
			used := false
			p.walk(func(n *plan) { used = used || n.Index == "lease_told" || n.Index == "lease_pkey" })
			if !used {
				t.Errorf("no index of keys is used:\n%s", p)
			}
			n += p.Hit + p.Read
		}
		return n
	}
	d.exec(`delete from lease where name like 'k-1%' and length(name) > 4`) // so that the page is as long later
	few := blocks()
	fill(10 * many)
	d.exec(`delete from lease where name like 'k-1%' and length(name) > 4`)
	d.exec(`vacuum analyze lease`)
	if later := blocks(); later > 3*few+20 {
		t.Errorf("a page takes %d blocks, of fewer keys %d", later, few)
	}
}
