package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// says is a full word of a proxy, and names who is connected.
func (d *db) says(proxy string, backends ...string) {
	d.t.Helper()
	if err := d.Keepalive(d.t.Context(), proxy, backends, nil); err != nil {
		d.t.Fatal(err)
	}
}

// passes lets time go by for backends and what proxies said of them.
func (d *db) passes(by time.Duration, ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		d.past(id, by)
	}
	d.exec(`update proxy set heard_at = heard_at - $1::interval`, by)
}

// ready spawns backends with an idle limit that are ready and have been for long.
func (d *db) ready(idle int64, ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		d.limited(id, 0, idle)
		d.transition(reported(id, messages.Ready))
		d.past(id, 10*time.Second)
	}
}

// The demand: silence is not absence. Somebody is connected for as long as the proxy that said so may just be
// silent, which is a lease's time: when the bus is away, when all workers are, or when only the proxy is cut off.
// Found by cutting each of them off for 15 to 30 s, with a WebSocket open: the backend was swept.
func TestConnectedBackendIsNotIdleWhileItsProxyIsSilent(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.ready(20, "b-1", "b-2")
	d.says("px-a", "b-1")
	d.says("px-b", "b-2")
	for range 3 { // nobody says anything, and nobody sweeps
		d.passes(19*time.Second, "b-1", "b-2")
		d.look("b-1", "b-2")
		d.wantSweep(nil)
	}
	// One is back in time, and names it; of the other nothing is heard for a lease's time.
	d.says("px-a", "b-1")
	d.past("b-2", 4*time.Second)
	d.exec(`update proxy set heard_at = heard_at - interval '4 seconds' where name = 'px-b'`)
	d.look("b-1", "b-2")
	d.wantSweep(map[string]store.Cause{"b-2": store.CauseIdle})
	d.passes(19*time.Second, "b-1")
	d.says("px-b")
	d.look("b-1")
	d.wantSweep(nil)
}

// The demand: idle time ends by the proxy's word, whether that names who has left, or names all and not that one.
func TestBackendIsIdleOnceItsProxySaysSo(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.ready(20, "b-left", "b-unnamed", "b-other", "b-late")
	d.says("px-a", "b-left", "b-unnamed", "b-other", "b-late")
	d.says("px-b", "b-other")
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-left", "b-late"}, []int64{1, 0}); err != nil {
		t.Fatal(err)
	}
	all := []string{"b-left", "b-unnamed", "b-other", "b-late"}
	d.passes(21*time.Second, all...)
	d.says("px-a", "b-late")
	d.says("px-b", "b-other")
	d.look(all...)
	d.wantSweep(map[string]store.Cause{"b-left": store.CauseIdle, "b-unnamed": store.CauseIdle})
	// What is told of some says nothing of the others.
	for range 3 {
		d.passes(14*time.Second, "b-late", "b-other")
		if err := d.KeepaliveOfSome(t.Context(), "px-a", []string{"b-new"}, nil); err != nil {
			t.Fatal(err)
		}
		d.look("b-late", "b-other")
		d.wantSweep(nil)
	}
}

// The demand: a join counts as activity. Whoever joins every half second finds one and the same backend, however
// short its idle limit is, and the last link is good for most of that limit.
// Found by asking every 0.5 s with a limit of 5 s: 20 of 20 ended after 5 to 6 s, each last link led nowhere.
func TestJoinsKeepABackendFromBeingIdle(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	const idle = 5
	d.limited("b-1", 0, idle)
	d.transition(reported("b-1", messages.Ready))
	for i := range 60 {
		d.past("b-1", 500*time.Millisecond)
		d.look("b-1")
		d.wantSweep(nil)
		d.joinsAs("k-b-1", "b-1", fmt.Sprint(i))
	}
	d.past("b-1", 3500*time.Millisecond)
	d.look("b-1")
	d.wantSweep(nil)
	d.past("b-1", time.Minute)
	d.look("b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseIdle})
}

// joinsAs asks for a key with a token of its own and wants its holder.
func (d *db) joinsAs(key, holder, token string) {
	d.t.Helper()
	w := want(key, "b-other", "dr-a")
	w.Tokens[0].Hash = lease.HashToken(key + token)
	if got, _ := d.connect(w); got[0].Result != lease.Held || got[0].BackendID != holder || got[0].Leaving {
		d.t.Fatalf("who asks for %s gets %+v", key, got[0])
	}
}

// The demand: a join and a sweep of one that is idle meet, in either order, or come as they like: either the backend
// stays, or who joins is told that it leaves. No link leads to one that was asked to end.
func TestJoinThatMeetsASweepOfTheIdle(t *testing.T) {
	t.Parallel()
	join := func(d *db) lease.Got {
		got, _, err := d.Connect(context.Background(), []lease.Want{want("k-b-1", "b-other", "dr-a")})
		if err != nil {
			d.t.Error("connect:", err)
			return lease.Got{}
		}
		return got[0]
	}
	idle := func(t *testing.T) *db {
		t.Helper()
		d := newDB(t)
		d.drone("dr-a")
		d.ready(20, "b-1")
		d.passes(time.Minute, "b-1")
		d.exec(`delete from token`)
		return d
	}
	t.Run("the sweep comes first", func(t *testing.T) {
		t.Parallel()
		d := idle(t)
		d.meanwhile(`update backend set asked = 1, asked_at = now()`, func() {
			if got := join(d); !got.Leaving {
				t.Errorf("it joins one that was asked to end: %+v", got)
			}
		})
		if n := one[int](d, `select count(*) from token`); n != 0 {
			t.Error("a link leads to it")
		}
	})
	t.Run("the join comes first", func(t *testing.T) {
		t.Parallel()
		d := idle(t)
		since := one[time.Time](d, `select now()`)
		d.meanwhile(`update backend set last_keepalive_at = clock_timestamp()`, func() {
			rows, _, err := d.Transition(context.Background(), nil, []store.Change{
				{BackendID: "b-1", Event: lifecycle.TerminateAsked{Reason: messages.ReasonSwept}, IdleSince: since},
			})
			if err != nil || len(terminations(rows)) != 0 {
				t.Errorf("one that somebody joined is asked to end: %v, %v", rows, err)
			}
		})
	})
	t.Run("as they like", func(t *testing.T) {
		t.Parallel()
		d := idle(t)
		for range 25 {
			d.exec(`delete from token`)
			d.exec(`update backend set asked = 0, asked_at = null`)
			d.exec(`delete from outbox where kind = 'terminate'`)
			d.passes(time.Minute, "b-1")
			d.look("b-1")
			swept := make(chan error, 1)
			go func() {
				_, err := d.Sweep(context.Background(), startWithin)
				swept <- err
			}()
			got := join(d)
			if err := <-swept; err != nil {
				t.Fatal(err)
			}
			asked := one[bool](d, `select asked > 0 from backend where id = 'b-1'`)
			if got.BackendID != "b-1" || got.Leaving != asked {
				t.Fatalf("joined %+v; it was asked to end: %v", got, asked)
			}
			if linked := one[bool](d, `select exists (select from token)`); linked == asked {
				t.Fatalf("a link leads to it: %v; it was asked to end: %v", linked, asked)
			}
		}
	})
}

// The demand: who was asked to end is leaving from then on, whoever asked and whatever the drone says. Nobody joins it.
// Found by terminate and connect at once: 8 of 10 joined what was to end.
func TestI3WhatWasAskedToEndIsJoinedByNobody(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	leaves := func(id string) {
		t.Helper()
		w := want("k-"+id, "b-other", "dr-a")
		w.Tokens[0].Hash = lease.HashToken("later " + id)
		got, rows := d.connect(w)
		if got[0].Result != lease.Held || got[0].BackendID != id || !got[0].Leaving || got[0].ExpiresIn <= 0 || len(rows) != 0 {
			t.Errorf("who asks for the key of %s gets %+v, %v", id, got[0], rows)
		}
		if n := one[int](d, `select count(*) from token where hash = $1`, w.Tokens[0].Hash); n != 0 {
			t.Errorf("a link leads to %s", id)
		}
	}
	for _, status := range []messages.Status{messages.Scheduled, messages.Loading, messages.Starting, messages.Ready} {
		for _, hard := range []bool{false, true} {
			id := fmt.Sprintf("b-%s-%v", status, hard)
			d.limited(id, 0, 0)
			if status != messages.Scheduled {
				d.transition(reported(id, status))
			}
			d.transition(store.Change{BackendID: id, Event: lifecycle.TerminateAsked{Hard: hard, Reason: messages.ReasonExternal}})
			leaves(id)
			d.renew("dr-a", session)
			leaves(id) // for as long as its drone does not act
			d.transition(reported(id, messages.Terminated))
			if d.spawn("k-"+id, id+"-next", "dr-a") == 0 {
				t.Errorf("the key of %s is not free", id)
			}
		}
	}
	// By the sweep: past its lifetime, idle, not ready in time.
	d.limited("b-life", 100, 0)
	d.limited("b-idle", 0, 20)
	d.limited("b-slow", 0, 0)
	d.transition(reported("b-life", messages.Ready), reported("b-idle", messages.Ready))
	for _, id := range []string{"b-life", "b-idle", "b-slow"} {
		d.past(id, startWithin+time.Second)
		d.look(id)
	}
	d.wantSweep(map[string]store.Cause{"b-life": store.CauseLifetime, "b-idle": store.CauseIdle, "b-slow": store.CauseStart})
	for _, id := range []string{"b-life", "b-idle", "b-slow"} {
		leaves(id)
	}
}
