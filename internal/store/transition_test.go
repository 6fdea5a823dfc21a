package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

func anyEvent() *rapid.Generator[lifecycle.Event] {
	return rapid.Custom(func(t *rapid.T) lifecycle.Event {
		switch rapid.IntRange(0, 9).Draw(t, "event") {
		case 0:
			return lifecycle.Lost{}
		case 1, 2:
			return lifecycle.TerminateAsked{Hard: rapid.Bool().Draw(t, "hard"), Reason: messages.ReasonExternal}
		case 3:
			// There is one drone, and the request waits no more.
			return lifecycle.Refused{State: messages.State{Status: messages.Terminated, Message: "full"}, Chance: lifecycle.Chance{Held: true}}
		default:
			return lifecycle.Reported{State: messages.State{
				Status: rapid.SampledFrom(messages.Statuses[1:]).Draw(t, "status"), Message: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "message"),
			}}
		}
	})
}

// model is what the outbox must hold of one backend by the rules alone.
type model struct {
	lifecycle.Backend
	states  []messages.Status // that it went through
	untaken []messages.Status // what shows that the actions were taken
}

func (m *model) apply(e lifecycle.Event) {
	next, actions := lifecycle.Step(m.Backend, e)
	_, over := e.(lifecycle.Lost)
	if r, ok := e.(lifecycle.Reported); ok {
		over = r.State.Status.Leaving()
	}
	if over && m.Status == messages.Scheduled {
		m.states = append(m.states, messages.Scheduled) // perhaps nobody published it with the spawn
	}
	m.Backend = next
	if actions.Publish {
		m.states = append(m.states, next.Status)
	}
	if t := actions.Terminate; t != nil {
		until := messages.Terminating
		if _, lost := e.(lifecycle.Lost); lost {
			// It outdoes all that was asked before, the spawn included.
			until, m.untaken = messages.Terminated, nil
		} else if t.Hard {
			until = messages.HardTerminating
		}
		m.untaken = append(m.untaken, until)
	}
	if actions.Taken {
		shown := messages.Terminated
		if r, ok := e.(lifecycle.Reported); ok {
			shown = r.State.Status
		}
		m.untaken = slices.DeleteFunc(m.untaken, func(until messages.Status) bool { return until <= shown })
	}
}

func TestI5WhatIsWrittenFollowsTheRulesOfLifecycle(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	n := 0
	d.drone("dr-a")
	checkLives(t, func(t *rapid.T) {
		n++
		id, key := fmt.Sprintf("b-%d", n), fmt.Sprintf("k-%d", n)
		d.spawn(key, id, "dr-a")
		m := model{Backend: lifecycle.Backend{State: messages.State{Status: messages.Scheduled}}, untaken: []messages.Status{messages.Loading}}
		var published []messages.Status
		sealed := false
		for _, events := range rapid.SliceOfN(rapid.SliceOfN(anyEvent(), 1, 4), 0, 4).Draw(t, "reports") {
			changes := make([]store.Change, len(events))
			if slices.Contains(events, lifecycle.Event(lifecycle.Lost{})) {
				d.expire(id)
				sealed = true
			}
			for i, e := range events {
				if r, refused := e.(lifecycle.Refused); refused && sealed {
					r.Chance.Held = false
					e = r
				}
				changes[i] = store.Change{BackendID: id, Event: e}
				m.apply(e)
			}
			rows := d.transition(changes...)
			states := statesOf(rows, id)
			var ids []int64
			var gone []outbox.Row
			for _, r := range rows {
				if r.Kind == outbox.KindState {
					ids, gone = append(ids, r.ID), append(gone, r)
				}
			}
			if !slices.IsSorted(states) || !slices.IsSorted(ids) {
				t.Fatalf("states %v in rows %v are not in order", states, ids)
			}
			if rapid.Bool().Draw(t, "acknowledged") {
				published = append(published, states...)
				if err := d.DeleteOutbox(context.Background(), gone); err != nil {
					t.Fatal(err)
				}
			}
		}
		left := statesOf(d.transition(reported(id, messages.Loading)), id)
		m.apply(reported(id, messages.Loading).Event)
		if got := append(published, left...); !slices.Equal(got, m.states) {
			t.Fatalf("published and left are %v, want %v", got, m.states)
		}
		got := d.status(id)
		if got.Reason == messages.ReasonLost { // why is found where the lease is: see TestEachBackendsEndSaysWhy
			got.Why = messages.Why{}
		}
		if got.State != m.State || got.Number != int(m.Status) {
			t.Fatalf("stored %+v, want %+v", got.State, m.State)
		}
		if asked := one[int16](d, `select asked from backend where id = $1`, id); asked != int16(m.Asked) {
			t.Fatalf("asked is %d, want %d", asked, m.Asked)
		}
		released := one[bool](d, `select released_at is not null from lease where name = $1`, key)
		if released != (m.Status == messages.Terminated) {
			t.Fatalf("%s: lease released: %v", m.Status, released)
		}
		untaken := one[[]int16](d, `select coalesce(array_agg(until_status order by id), '{}') from outbox where backend_id = $1 and until_status is not null`, id)
		if fmt.Sprint(untaken) != fmt.Sprint(numbers(m.untaken)) {
			t.Fatalf("actions on record until %v, want %v", untaken, m.untaken)
		}
	})
}

func numbers(list []messages.Status) (n []int16) {
	for _, s := range list {
		n = append(n, int16(s))
	}
	return n
}

// meanwhile runs change between a transition's look at a backend and its write.
func (d *db) meanwhile(change string, run func()) {
	d.t.Helper()
	tx, err := d.raw.Begin(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(context.Background(), change); err != nil {
		d.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(run)
	d.blocked(1)
	if err := tx.Commit(context.Background()); err != nil {
		d.t.Fatal(err)
	}
	wg.Wait()
}

// Another's change comes before a whole report, or after it.
func TestI5StatesOfAReportThatMeetsAnotherChange(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.meanwhile(`update backend set asked = 1`, func() {
		rows, _, err := d.Transition(context.Background(), nil, []store.Change{
			reported("b-1", messages.Loading), reported("b-1", messages.Starting), reported("b-1", messages.Ready),
		})
		want := []messages.Status{messages.Loading, messages.Starting, messages.Ready}
		if got := statesOf(rows, "b-1"); err != nil || !slices.Equal(got, want) {
			t.Errorf("to publish: %v, %v, want %v", got, err, want)
		}
	})
	if asked := one[int16](d, `select asked from backend`); asked != 1 {
		t.Errorf("what was asked meanwhile is gone: %d", asked)
	}
}

func TestI1ReportOfAnEarlierSessionThatMeetsAnAdoptionIsRefused(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.meanwhile(`update backend set session = 's-2'`, func() {
		rows, foreign, err := d.Transition(context.Background(), &store.Holder{Drone: "dr-a", Session: session}, []store.Change{
			reported("b-1", messages.Terminated),
		})
		if err != nil || !slices.Equal(foreign, []string{"b-1"}) || len(rows) > 0 {
			t.Errorf("foreign %v, rows %v, %v", foreign, rows, err)
		}
	})
	if s := d.status("b-1").Status; s != messages.Scheduled {
		t.Errorf("the backend is %s", s)
	}
}

func TestI5TwoReportersOfOneBackendLoseNothing(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for i := range 6 {
		id := fmt.Sprintf("b-%d", i)
		d.spawn(id, id, "dr-a")
		var wg sync.WaitGroup
		for range 2 {
			for _, s := range messages.Statuses[1:] {
				wg.Go(func() {
					if _, _, err := d.Transition(context.Background(), nil, []store.Change{reported(id, s)}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		info := d.status(id)
		on := one[[]int16](d, `select array_agg(status order by id) from outbox where backend_id = $1 and kind = 'state'`, id)
		if !slices.IsSorted(on) || len(slices.Compact(on)) != len(on) || on[len(on)-1] != 70 || info.Status != messages.Terminated {
			t.Fatalf("%s: states on record %v", info.Status, on)
		}
	}
}

func TestI4RacedBackendIDLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	insert := `insert into backend (id, namespace, name, tag, cluster, pool, drone, session, fencing_token, status)
		values ('b-1', '', 'other', '', 'c', '', 'dr-a', 's', 1, 10)`
	d.meanwhile(insert, func() {
		_, rows, err := d.Connect(context.Background(), []lease.Want{want("j", "b-0", "dr-a"), want("k", "b-1", "dr-a")})
		if !errors.Is(err, lease.ErrRaced) || rows != nil {
			t.Errorf("rows %v, %v, want it raced", rows, err)
		}
	})
	d.empty("a raced one", 1)
	got, rows := d.connect(want("k", "b-1", "dr-a"))
	if got[0].Result != lease.IDTaken || len(rows) != 0 {
		t.Errorf("the next try: %+v", got[0])
	}
	d.empty("a refused id", 1)
}

func TestI4RefusedConnectLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	unspawned, stale, unknown := want("k1", "b-1", "dr-a"), want("k2", "b-2", "dr-a"), want("k3", "b-3", "dr-none")
	unspawned.Spawn = nil
	stale.Spawn.Session = "s-0"
	got, rows := d.connect(unspawned, stale, unknown)
	for i, g := range got {
		if g.Result != lease.Unheld {
			t.Errorf("%d: %+v", i, g)
		}
	}
	if len(rows) != 0 {
		t.Errorf("to publish: %v", rows)
	}
	d.empty("refusals", 0)
}

func (d *db) empty(after string, backends int) {
	d.t.Helper()
	for table, n := range map[string]int{"lease": 0, "backend": backends, "token": 0, "outbox where kind <> 'drone'": 0} {
		if got := one[int](d, `select count(*) from `+table); got != n {
			d.t.Errorf("after %s %d rows are in %s, want %d", after, got, table, n)
		}
	}
}

func TestNoDeadlockBetweenConnectReportAndRenewal(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	const keys, workers, turns = 6, 2, 15
	latest := make([]string, keys)
	for k := range keys {
		latest[k] = fmt.Sprintf("b-%d", k)
		d.spawn(fmt.Sprint("k", k), latest[k], "dr-a")
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { // connects that take over, in the order of keys
			for turn := range turns {
				var wants []lease.Want
				for k := range keys {
					wants = append(wants, want(fmt.Sprint("k", k), fmt.Sprintf("c-%d-%d-%d", w, turn, k), "dr-a"))
				}
				if _, err := d.raw.Exec(ctx, `update lease set sealed_until = now() where name = $1`, fmt.Sprint("k", turn%keys)); err != nil {
					t.Error(err)
				}
				if _, _, err := d.Connect(ctx, wants); err != nil {
					t.Error("connect:", err)
				}
			}
		})
		wg.Go(func() { // reports, in the other order
			for turn := range turns {
				var changes []store.Change
				for k := range keys {
					changes = append(changes, reported(latest[keys-1-k], messages.Statuses[1+turn%7]))
				}
				if _, _, err := d.Transition(ctx, nil, changes); err != nil {
					t.Error("report:", err)
				}
			}
		})
		wg.Go(func() { // renewals
			for range turns {
				if _, err := d.Heartbeat(ctx, "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true}); err != nil {
					t.Error("renewal:", err)
				}
				if err := d.Keepalive(ctx, "px-a", latest, nil); err != nil {
					t.Error("keepalive:", err)
				}
			}
		})
	}
	wg.Wait()
}

// I5: whoever made a backend may have died before its "scheduled" was published, or
// any state after it. Given up, it ends with all of them, in order.
func TestI5BackendThatIsGivenUpKeepsItsUnpublishedStates(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, c := range []struct {
		key  string
		more []messages.Status
		end  func(id string) []outbox.Row
	}{
		{"lost", nil, func(id string) []outbox.Row {
			d.expire(id)
			return d.transition(store.Change{BackendID: id, Event: lifecycle.Lost{}})
		}},
		{"lost-later", []messages.Status{messages.Loading, messages.Ready}, func(id string) []outbox.Row {
			d.expire(id)
			return d.transition(store.Change{BackendID: id, Event: lifecycle.Lost{}})
		}},
		{"taken", nil, func(id string) []outbox.Row {
			d.expire(id)
			_, rows := d.connect(want("taken", "taken-2", "dr-a"))
			return rows
		}},
		{"taken-later", []messages.Status{messages.Loading, messages.Ready}, func(id string) []outbox.Row {
			d.expire(id)
			_, rows := d.connect(want("taken-later", "taken-later-2", "dr-a"))
			return rows
		}},
		{"ended", nil, func(id string) []outbox.Row { // by its drone, which has heard of its termination only
			d.transition(store.Change{BackendID: id, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
			return d.transition(reported(id, messages.Terminated))
		}},
	} {
		id := c.key + "-1"
		d.spawn(c.key, id, "dr-a")
		expected := []messages.Status{messages.Scheduled, messages.Terminated}
		for _, s := range c.more {
			d.transition(reported(id, s))
		}
		if len(c.more) > 0 { // the report shows the spawn taken, so its state was published
			expected = append(slices.Clone(c.more), messages.Terminated)
		}
		rows := c.end(id)
		if got := statesOf(rows, id); !slices.Equal(got, expected) {
			t.Errorf("%s: the states to publish are %v, want %v", c.key, got, expected)
		}
		var published []outbox.Row
		for _, r := range rows {
			if r.Kind == outbox.KindState && r.BackendID == id {
				published = append(published, r)
			}
		}
		if err := d.DeleteOutbox(t.Context(), published); err != nil {
			t.Fatal(err)
		}
		if n := one[int](d, `select count(*) from outbox where backend_id = $1 and kind <> 'terminate'`, id); n != 0 {
			t.Errorf("%s: %d rows stay on record", c.key, n)
		}
	}
}
