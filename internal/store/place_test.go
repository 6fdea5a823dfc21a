package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// within gives a want's request so long.
func within(w lease.Want, d time.Duration) lease.Want {
	w.Spawn.Body.PlaceWithinMS = d.Milliseconds()
	return w
}

// scheduled is a backend on dr-a whose request waits for a minute.
func (d *db) scheduled(id string) (token int64) {
	d.t.Helper()
	_, rows := d.connect(within(want(id, id, "dr-a"), time.Minute))
	if len(rows) != 1 {
		d.t.Fatalf("to publish: %v", rows)
	}
	return rows[0].FencingToken
}

func refused(id string) store.Change {
	return store.Change{BackendID: id, Event: lifecycle.Refused{State: messages.State{
		Status: messages.Terminated, Reason: messages.ReasonStartFailed, Message: "the drone is full",
	}}}
}

// refuse has a drone refuse backends, and gives what is to be published and what is not its own.
func (d *db) refuse(drone string, ids ...string) (rows []outbox.Row, foreign []string) {
	d.t.Helper()
	var changes []store.Change
	for _, id := range ids {
		changes = append(changes, refused(id))
	}
	rows, foreign, err := d.Transition(context.Background(), &store.Holder{Drone: drone, Session: session}, changes)
	if err != nil {
		d.t.Error(err)
	}
	return rows, foreign
}

// contents is all of a backend but when it was tried.
func (d *db) contents(id string) string {
	d.t.Helper()
	return one[string](d, `select concat_ws(E'\n', (select b::text from backend b where b.id = $1), (select l::text from lease l where l.backend_id = $1),
		(select string_agg(o.id || o.kind || o.drone || o.body, ',' order by o.id) from outbox o where o.backend_id = $1))`, id)
}

// wantEnded wants a backend to have ended for want of room, whole.
func (d *db) wantEnded(id, message string, rows []outbox.Row) {
	d.t.Helper()
	info := d.status(id)
	if info.Status != messages.Terminated || info.Reason != messages.ReasonStartFailed || info.LastStatus != messages.Scheduled ||
		!strings.HasPrefix(info.Message, "no drone had room") || !strings.Contains(info.Message, message) {
		d.t.Errorf("%s ended as %+v, want %q", id, info.State, message)
	}
	if got := statesOf(rows, id); !slices.Equal(got, []messages.Status{messages.Terminated}) {
		d.t.Errorf("%s: to publish are %v", id, got)
	}
	if n := one[int](d, `select count(*) from outbox where backend_id = $1 and kind <> 'state'`, id); n != 0 {
		d.t.Errorf("%s: %d actions are on record", id, n)
	}
	if n := one[int](d, `select count(*) from lease where backend_id = $1 and released_at is null`, id); n != 0 {
		d.t.Errorf("%s: the lease was not released", id)
	}
}

func TestI1I4RefusedBackendIsPlacedAgainUnderItsLease(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.exec(`update session set drone_time_ms = 777000 where drone = 'dr-b'`)
	token := d.scheduled("b-1")
	first := one[int64](d, `select id from outbox where backend_id = 'b-1'`)

	rows, foreign := d.refuse("dr-a", "b-1", "b-1") // said twice, it is meant once
	if len(foreign) > 0 || len(rows) != 1 {
		t.Fatalf("foreign %v, to publish %v", foreign, rows)
	}
	r := &rows[0]
	if r.Kind != outbox.KindSpawn || r.Drone != "dr-b" || r.FencingToken != token || r.DroneTimeMS != 777000 || r.ID == first {
		t.Errorf("to publish: %+v", r)
	}
	msg, err := r.Action(d.Terms().Deadlines, nil)
	if err != nil {
		t.Fatal(err)
	}
	action, err := messages.Decode[messages.Action](msg.Data)
	if err != nil || action.ID != "b-1.spawn-2" || msg.Header.Get(messages.HeaderMessageID) != action.ID || msg.Subject != messages.ActionSubject("dr-b") ||
		action.Spawn.Session != session || action.Spawn.Key.Name != "b-1" || action.Spawn.FencingToken != token ||
		action.Spawn.Deadlines != d.Terms().Deadlines(777000) || strings.Contains(string(msg.Data), "dr-a") {
		t.Errorf("the action is %s, %v", msg.Data, err)
	}
	state, err := r.State()
	if err != nil || state.Header.Get(messages.HeaderMessageID) != messages.StateEventID("b-1", messages.Scheduled) {
		t.Errorf("it stands for %v, %v", state, err)
	}
	info := d.status("b-1")
	if info.Drone != "dr-b" || info.Status != messages.Scheduled || info.FencingToken != token {
		t.Errorf("it is %+v", info)
	}
	if n := one[int](d, `select count(*) from outbox where backend_id = 'b-1'`); n != 1 {
		t.Errorf("%d rows are on record", n)
	}

	// Only the new drone may speak of it and renew it.
	before := d.contents("b-1")
	if rows, foreign := d.refuse("dr-a", "b-1"); len(rows) > 0 || !slices.Equal(foreign, []string{"b-1"}) {
		t.Errorf("refused again: foreign %v, to publish %v", foreign, rows)
	}
	if held := d.renew("dr-a", session, "b-1"); len(held) > 0 {
		t.Error("the old drone renewed the lease")
	}
	if after := d.contents("b-1"); after != before {
		t.Errorf("the old drone changed\n%s\nto\n%s", before, after)
	}
	if held := d.renew("dr-b", session, "b-1"); len(held) != 1 {
		t.Error("the new drone cannot renew the lease")
	}
	_, foreign, err = d.Transition(t.Context(), &store.Holder{Drone: "dr-b", Session: session}, []store.Change{reported("b-1", messages.Ready)})
	if err != nil || len(foreign) > 0 || d.status("b-1").Status != messages.Ready {
		t.Errorf("the new drone's report: foreign %v, %v", foreign, err)
	}
	if n := one[int](d, `select count(*) from outbox where backend_id = 'b-1' and kind = 'spawn'`); n != 0 {
		t.Error("the spawn is on record after it was taken")
	}
}

// A drone that refused is full for everybody until it speaks again.
func TestRefusingDroneIsFullUntilItsNextHeartbeat(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.scheduled("b-1")
	d.refuse("dr-a", "b-1")
	if !d.placeable("dr-a").Full() || d.placeable("dr-b").Full() {
		t.Error("the snapshot does not know who refused")
	}
	if got, _ := d.connect(want("k-2", "b-2", "dr-a")); got[0].Result != lease.Unheld {
		t.Errorf("the statement gives it another: %+v", got[0])
	}
	d.renew("dr-a", session)
	if d.placeable("dr-a").Full() {
		t.Error("it counts as full after it has spoken")
	}
	d.spawn("k-2", "b-2", "dr-a")
	// What it has taken it does not refuse: it is not for want of room that this ends.
	d.transition(reported("b-2", messages.Loading))
	d.refuse("dr-a", "b-2")
	if d.placeable("dr-a").Full() || d.status("b-2").Status != messages.Terminated || d.status("b-2").Message != "the drone is full" {
		t.Errorf("refused after it was taken: %+v", d.status("b-2").State)
	}
}

// Each drone is tried once, and then it ends.
func TestI6BackendThatAllDronesRefuseEnds(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-b", "dr-c"} {
		d.drone(name)
	}
	for name, where := range map[string][2]string{"dr-pool": {cluster, "other"}, "dr-cluster": {"elsewhere", ""}} {
		d.drone(name)
		d.exec(`update drone set cluster = $2, pool = $3 where name = $1`, name, where[0], where[1])
	}
	d.scheduled("b-1")
	on, tried := "dr-a", map[string]bool{}
	for n := 1; n <= 3; n++ {
		tried[on] = true
		rows, _ := d.refuse(on, "b-1")
		d.renew(on, session) // it has room again, but had its turn
		if n == 3 {
			d.wantEnded("b-1", "the drone is full", rows)
			break
		}
		msg, err := rows[0].Action(d.Terms().Deadlines, nil)
		if err != nil || msg.Header.Get(messages.HeaderMessageID) != fmt.Sprintf("b-1.spawn-%d", n+1) {
			t.Fatalf("the action is %v, %v", msg, err)
		}
		if on = d.status("b-1").Drone; tried[on] {
			t.Fatalf("%s is tried twice", on)
		}
	}
	for _, name := range []string{"dr-pool", "dr-cluster"} {
		if tried[name] {
			t.Errorf("%s does not qualify", name)
		}
	}
	// Its key is free.
	d.spawn("b-1", "b-2", "dr-a")
}

func TestI6WhatMayNotBePlacedAgainEnds(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	for what, c := range map[string]struct{ change, message string }{
		"late":          {`update outbox set created_at = now() - interval '61 seconds' where backend_id = $1`, "within the time of the request"},
		"expired":       {`update lease set sealed_until = now() where backend_id = $1`, "before its lease ended"},
		"sealed":        {`update lease set sealed_until = now() + interval '1 minute' where backend_id = $1`, "before its lease ended"},
		"asked":         {`update backend set asked = 1 where id = $1`, "before it was to end"},
		"nobody-else":   {`update drone set draining = true where name = 'dr-b' and $1 <> ''`, "the drone is full"},
		"not-heard":     {`update session set heard_at = now() - interval '21 seconds', ready = true where drone = 'dr-b' and $1 <> ''`, "the drone is full"},
		"by-an-old-one": {`update outbox set body = replace(body, 'place_within_ms', 'unknown') where backend_id = $1`, "within the time of the request"},
	} {
		d.exec(`update drone set draining = false`)
		d.exec(`update session set refused = false, heard_at = now()`)
		d.scheduled(what)
		d.exec(c.change, what)
		rows, foreign := d.refuse("dr-a", what)
		if len(foreign) > 0 {
			t.Errorf("%s: foreign %v", what, foreign)
		}
		d.wantEnded(what, c.message, rows)
	}
}

// What comes in between a look at the backend and the write decides.
func TestI1RefusalsThatMeetAnotherChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		check  func(d *db, rows []outbox.Row, foreign []string)
	}{
		"a termination": {`update backend set asked = 1`, func(d *db, rows []outbox.Row, _ []string) {
			d.wantEnded("b-1", "before it was to end", rows)
		}},
		"the end of the lease": {`update lease set sealed_until = now() + interval '1 minute'`, func(d *db, rows []outbox.Row, _ []string) {
			d.wantEnded("b-1", "before its lease ended", rows)
		}},
		"another worker that places it": {`update backend set drone = 'dr-c'`, func(d *db, rows []outbox.Row, foreign []string) {
			if len(rows) > 0 || !slices.Equal(foreign, []string{"b-1"}) || d.status("b-1").Drone != "dr-c" {
				d.t.Errorf("foreign %v, to publish %v, it is on %s", foreign, rows, d.status("b-1").Drone)
			}
		}},
		"its drone, which takes it after all": {`update backend set status = 20`, func(d *db, rows []outbox.Row, _ []string) {
			if info := d.status("b-1"); info.Status != messages.Terminated || info.Drone != "dr-a" || len(rows) != 1 {
				d.t.Errorf("it is %+v", info)
			}
		}},
		"the drone that was picked, which is not ready any more": {`update session set ready = drone <> 'dr-b'`, func(d *db, rows []outbox.Row, _ []string) {
			d.wantEnded("b-1", "no drone had room", rows)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t)
			d.drone("dr-a")
			d.drone("dr-b")
			d.scheduled("b-1")
			d.meanwhile(c.change, func() {
				rows, foreign := d.refuse("dr-a", "b-1")
				c.check(d, rows, foreign)
			})
		})
	}
}

// I1, I3: however many say it at once, and whatever else goes on, a backend is placed
// again once, and one spawn is on record.
func TestI1I3RefusalsAtOncePlaceOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-b", "dr-c", "dr-d"} {
		d.drone(name)
	}
	for n := range 8 {
		ids := []string{fmt.Sprintf("b-%d-1", n), fmt.Sprintf("b-%d-2", n), fmt.Sprintf("b-%d-3", n)}
		for _, id := range ids {
			d.exec(`update session set refused = false`)
			d.scheduled(id)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		placed := map[string]int{}
		for i := range 4 {
			wg.Go(func() {
				mine := slices.Clone(ids)
				if i%2 == 1 {
					slices.Reverse(mine)
				}
				// One by one: a message with a foreign one is refused whole.
				for _, id := range mine {
					rows, _ := d.refuse("dr-a", id)
					mu.Lock()
					for _, r := range rows {
						if r.Kind == outbox.KindSpawn {
							placed[r.BackendID]++
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			d.transition(store.Change{BackendID: ids[2], Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
		})
		wg.Go(func() {
			if _, err := d.Heartbeat(context.Background(), "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := d.ClaimOutbox(context.Background(), true, 100); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		for _, id := range ids {
			info := d.status(id)
			spawns := one[int](d, `select count(*) from outbox where backend_id = $1 and kind = 'spawn'`, id)
			switch {
			case info.Status == messages.Scheduled && info.Drone != "dr-a" && placed[id] == 1 && spawns == 1:
			case id == ids[2] && info.Status == messages.Terminated && placed[id] == 0 && spawns == 0:
			default:
				t.Errorf("%s: placed %d times, %d spawns on record, %+v", id, placed[id], spawns, info)
			}
			if id == ids[2] && info.Status == messages.Scheduled {
				// Whoever has it now was told to end it.
				if on := one[string](d, `select drone from outbox where backend_id = $1 and kind = 'terminate'`, id); on != info.Drone {
					t.Errorf("%s is on %s, and %s is told to end it", id, info.Drone, on)
				}
			}
		}
	}
}

// A drone's agent that begins anew before it took a spawn cannot take it any more: it is
// placed elsewhere, as if it had been refused. What it may have taken is lost.
func TestI1I3UntakenBackendsOfADroneThatBeganAnewArePlacedAgain(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	for _, id := range []string{"untaken", "taken", "asked", "late", "runs", "moved"} {
		d.scheduled(id)
	}
	d.transition(reported("taken", messages.Loading), reported("runs", messages.Ready),
		store.Change{BackendID: "asked", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.exec(`update outbox set created_at = created_at - interval '1 hour' where backend_id = 'late'`)
	done, err := d.Register(t.Context(), "dr-a", registration("dr-a", "s-2", "runs"))
	orphans := done.Orphans
	if err != nil || len(done.Lost) > 0 || len(orphans) != 5 {
		t.Fatalf("lost %v, orphans %v, %v", done.Lost, orphans, err)
	}
	// Meanwhile another worker hears of this one's refusal.
	if rows, _ := d.refuse("dr-a", "moved"); len(rows) != 1 || rows[0].Drone != "dr-b" {
		t.Fatalf("to publish: %v", rows)
	}
	for range 2 { // again changes nothing
		if _, _, err := d.Transition(t.Context(), nil, orphans); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]struct {
			drone  string
			status messages.Status
			reason messages.TerminationReason
		}{
			"untaken": {"dr-b", messages.Scheduled, ""},
			"moved":   {"dr-b", messages.Scheduled, ""},
			"runs":    {"dr-a", messages.Ready, ""},
			"taken":   {"dr-a", messages.Terminated, messages.ReasonLost},
			"asked":   {"dr-a", messages.Terminated, messages.ReasonLost},
			"late":    {"dr-a", messages.Terminated, messages.ReasonLost},
		} {
			if info := d.status(id); info.Drone != want.drone || info.Status != want.status || info.Reason != want.reason {
				t.Errorf("%s is %+v", id, info)
			}
		}
	}
	if d.placeable("dr-b").Full() {
		t.Error("the drone that took it counts as full")
	}
	// The new session says that it does not take what was for the one before.
	_, foreign, err := d.Transition(t.Context(), &store.Holder{Drone: "dr-a", Session: "s-2"}, []store.Change{reported("untaken", messages.Terminated)})
	if err != nil || !slices.Equal(foreign, []string{"untaken"}) {
		t.Errorf("foreign %v, %v", foreign, err)
	}
}

// What is said of a start's progress is seen by who asks, and is no event.
func TestI5ProgressOfLoadingIsNoEvent(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	loading := func(text string) store.Change {
		return store.Change{BackendID: "b-1", Event: lifecycle.Reported{State: messages.State{Status: messages.Loading, Message: text}}}
	}
	rows := d.transition(loading("pulling"))
	if err := d.DeleteOutbox(t.Context(), rows[:1]); err != nil {
		t.Fatal(err)
	}
	changed := d.status("b-1").ChangedAt
	if rows := d.transition(loading("12 of 80 MB"), loading("40 of 80 MB")); len(rows) != 0 {
		t.Errorf("to publish: %v", rows)
	}
	info := d.status("b-1")
	if info.Status != messages.Loading || info.Message != "40 of 80 MB" || !info.ChangedAt.Equal(changed) {
		t.Errorf("it is %+v", info)
	}
	before := d.contents("b-1")
	d.transition(loading("40 of 80 MB"), loading(""))
	if after := d.contents("b-1"); after != before {
		t.Errorf("the same again changed\n%s\nto\n%s", before, after)
	}
	rows = d.transition(loading("70 of 80 MB"), reported("b-1", messages.Starting), loading("late"))
	if info := d.status("b-1"); info.Status != messages.Starting || info.Message != "" || !slices.Equal(statesOf(rows, "b-1"), []messages.Status{messages.Starting}) {
		t.Errorf("started, it is %+v, to publish %v", info, rows)
	}
}
