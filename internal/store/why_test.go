package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// endedWhy wants a backend to have ended for a cause, with words that say something, and its event to say the same.
func (d *db) endedWhy(id string, rows []outbox.Row, cause messages.TerminationCause, by string, words ...string) {
	d.t.Helper()
	info := d.status(id)
	if info.Status != messages.Terminated || info.Cause != cause || info.By != by || info.EndedAt == nil {
		d.t.Errorf("%s ended as %+v, want the cause %q by %q", id, info.State, cause, by)
	}
	for _, part := range words {
		if !strings.Contains(info.Words, part) {
			d.t.Errorf("%s: %q does not say %q", id, info.Words, part)
		}
	}
	for _, r := range rows {
		if r.BackendID != id || r.Status != messages.Terminated {
			continue
		}
		var state messages.State
		if err := json.Unmarshal(r.Body, &state); err != nil || state.Why != info.Why {
			d.t.Errorf("the event of %s says %+v, %v; its status %+v", id, state.Why, err, info.Why)
		}
		return
	}
	d.t.Errorf("no event says that %s ended", id)
}

// ends is a drone's word that a backend has ended as it was told to.
func ends(id string, kind messages.TerminationKind, reason messages.TerminationReason) store.Change {
	return store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: messages.Terminated, Kind: kind, Reason: reason}}}
}

// The demand: of each backend that has ended an operator finds out why, as a field and in words: idle or lifetime, by whom, and which
// lease was lost and why.
func TestEachBackendsEndSaysWhy(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-silent", "dr-replaced", "dr-forgot"} {
		d.drone(name)
	}
	ready := func(ids ...string) {
		for _, id := range ids {
			d.transition(reported(id, messages.Ready))
		}
	}
	d.limited("b-life", 100, 0)
	d.limited("b-idle", 0, 30)
	for _, id := range []string{"b-asked", "b-self", "b-early", "b-stuck"} {
		d.spawn(id, id, "dr-a")
	}
	d.spawn("b-silent", "b-silent", "dr-silent")
	d.spawn("b-replaced", "b-replaced", "dr-replaced")
	d.spawn("b-forgot", "b-forgot", "dr-forgot")
	ready("b-life", "b-idle", "b-asked", "b-self", "b-early", "b-stuck", "b-silent", "b-replaced", "b-forgot")

	d.past("b-life", 101*time.Second)
	d.past("b-idle", 101*time.Second)
	d.wantSweep(map[string]store.Cause{"b-life": store.CauseLifetime, "b-idle": store.CauseIdle})
	d.endedWhy("b-life", d.transition(ends("b-life", messages.Soft, messages.ReasonSwept)), messages.CauseLifetime, "", "lifetime_limit_seconds")
	d.endedWhy("b-idle", d.transition(ends("b-idle", messages.Soft, messages.ReasonSwept)), messages.CauseIdle, "", "max_idle_seconds")

	ask := func(id, by string, hard bool) {
		d.transition(store.Change{BackendID: id, Event: lifecycle.TerminateAsked{
			Hard: hard, Reason: messages.ReasonExternal, Why: messages.Why{Cause: messages.CauseAsked, By: by, Words: by + " asked for its end: an upgrade"},
		}})
	}
	ask("b-asked", "ada", false)
	if info := d.status("b-asked"); info.Status != messages.Ready || info.By != "ada" {
		t.Errorf("it was asked to end, and is %+v", info.State)
	}
	ask("b-asked", "bob", true) // the first who asked is why
	d.endedWhy("b-asked", d.transition(ends("b-asked", messages.Hard, messages.ReasonExternal)), messages.CauseAsked, "ada", "ada asked", "an upgrade")

	d.endedWhy("b-self", d.transition(ends("b-self", "", "")), "", "")
	ask("b-early", "ada", false) // it had ended before its drone heard of that
	d.endedWhy("b-early", d.transition(ends("b-early", "", "")), "", "")

	ask("b-stuck", "ada", false)
	d.expire("b-stuck")
	d.look("b-stuck")
	_, rows := d.sweep()
	d.endedWhy("b-stuck", rows, messages.CauseStuck, "ada", "dr-a", "ada asked")

	if _, err := d.from("dr-forgot", "s-2", "m-dr-forgot", "boot"); err != nil {
		t.Fatal(err)
	}
	d.endedWhy("b-forgot", d.transition(store.Change{BackendID: "b-forgot", Event: lifecycle.Forgotten{}}), messages.CauseDroneForgot, "", "began anew")

	d.exec(`update session set heard_at = now() - interval '30 seconds' where drone = 'dr-replaced'`)
	if _, err := d.from("dr-replaced", "s-2", "m-other", "boot"); err != nil {
		t.Fatal(err)
	}
	d.exec(`update session set expires_at = now() - interval '1 second' where drone = 'dr-replaced' and id = $1`, session)
	d.silence("dr-silent", 2*time.Minute)
	e, err := d.Expire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows = append(e.Rows, e.Drones...)
	d.endedWhy("b-silent", rows, messages.CauseDroneSilent, "", "dr-silent was last heard at 2")
	d.endedWhy("b-replaced", rows, messages.CauseDroneReplaced, "", "another machine", "dr-replaced")

	// Which lease was lost is found out by who asks for the key, too.
	d.spawn("k", "b-taken", "dr-a")
	ready("b-taken")
	d.exec(`update session set home = 'before' where drone = 'dr-a'`)
	d.expireSession("dr-a")
	d.drone("dr-b")
	_, rows = d.connect(want("k", "b-next", "dr-b"))
	d.endedWhy("b-taken", rows, messages.CauseRestored, "", "restored or failed over", "dr-a")

	// A listing says the same.
	page, err := d.Backends(t.Context(), &messages.BackendsRequest{All: true, Page: messages.Page{Limit: 100}})
	if i := slices.IndexFunc(page.Backends, func(b messages.BackendInfo) bool { return b.BackendID == "b-asked" }); err != nil || i < 0 || page.Backends[i].By != "ada" || page.Backends[i].EndedAt == nil {
		t.Errorf("listed as %+v, %v", page.Backends, err)
	}
}

// The demand: what a backend runs, its limits, when it was last used, and by whom.
func TestStatusSaysWhatRunsForWhom(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	w := want("k", "b-1", "dr-a")
	w.Spawn.Body.Executable = json.RawMessage(`{"command":["room","--size","4"],"env":{"K":"hidden"}}`)
	w.Spawn.LifetimeSeconds, w.Spawn.MaxIdleSeconds = 100, 30
	d.connect(w)
	info := d.status("b-1")
	if info.Runs != "room --size 4" || info.LifetimeEndsAt == nil || info.MaxIdleSeconds == nil || *info.MaxIdleSeconds != 30 || info.LastUsedAt != nil || info.EndedAt != nil {
		t.Errorf("it is %+v", info)
	}
	if !slices.Equal(info.Users, []string{"u"}) || info.MoreUsers {
		t.Errorf("its users are %q", info.Users)
	}
	d.past("b-1", 10*time.Second)
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-1"}, nil); err != nil {
		t.Fatal(err)
	}
	if info := d.status("b-1"); info.LastUsedAt == nil || info.LastUsedAt.Before(info.CreatedAt.Add(9*time.Second)) {
		t.Errorf("it was last used at %v", info.LastUsedAt)
	}
	d.exec(`insert into token (hash, backend_id, username, auth, secret, expires_at)
		select int8send(i * 100 + n), 'b-1', 'v-' || lpad(i::text, 3, '0'), '{}', '', now() + case when i <= 40 then interval '-1 second' else interval '1 hour' end
		from generate_series(1, 80) i, generate_series(1, 3) n`)
	if info := d.status("b-1"); len(info.Users) != messages.MaxUsers || !info.MoreUsers || info.Users[0] != "u" || info.Users[1] != "v-041" {
		t.Errorf("its users are %q, more: %v", info.Users, info.MoreUsers)
	}
}

// The demand: why there is no drone, and which are full.
func TestFleetSaysWhyThereIsNoDrone(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-b", "dr-c", "dr-d", "dr-e"} {
		d.drone(name)
	}
	d.exec(`update drone set max_backends = 2 where name = 'dr-a'`)
	d.exec(`update session set load_backends = 2 where drone = 'dr-a'`)
	d.exec(`update drone set draining = true where name = 'dr-b'`)
	d.exec(`update session set ready = false where drone = 'dr-c'`)
	d.exec(`update session set heard_at = now() - interval '30 seconds' where drone = 'dr-d'`)
	d.silence("dr-e", 2*time.Minute)
	d.lostDrones()
	groups, err := d.Fleet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, g := range groups {
		if g.Cluster != cluster || g.Pool != "" {
			t.Errorf("a group is %+v", g)
		}
		got[string(g.State)] += g.Drones
		if g.State == "full" && (g.Load.Backends != 2 || g.Capacity.MaxBackends != 2 || g.Limited.Backends != 1) {
			t.Errorf("the full ones are %+v", g)
		}
	}
	for _, state := range []string{"full", "draining", "not-ready", "silent", "lost"} {
		if got[state] != 1 {
			t.Errorf("%d drones are %s, of %v", got[state], state, got)
		}
	}
	page, err := d.Drones(t.Context(), &messages.DronesRequest{Page: messages.Page{Limit: 10}})
	if err != nil || !page.Drones[0].Full || page.Drones[1].Full {
		t.Errorf("listed as %+v, %v", page.Drones, err)
	}
	d.spawn("k", "b-1", d.anew("dr-f"))
	live, proxies, err := d.Live(t.Context())
	if err != nil || proxies != 0 || len(live) != 1 || live[0] != (store.Live{Cluster: cluster, Status: messages.Scheduled, Backends: 1}) {
		t.Errorf("there live %+v, %d proxies, %v", live, proxies, err)
	}
}

// anew registers a drone, and gives its name.
func (d *db) anew(name string) string {
	d.drone(name)
	return name
}

// The demand: a lost drone is forgotten when somebody asks, and no other one, nor one whose backends have not ended (I6).
func TestI6OnlyALostDroneWithNothingLeftIsForgotten(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	if _, err := d.Forget(t.Context(), "dr-none"); messages.KindOf(err) != messages.NotFound {
		t.Errorf("one that there is not: %v", err)
	}
	if _, err := d.Forget(t.Context(), "dr-a"); messages.KindOf(err) != messages.DroneHeld || !strings.Contains(err.Error(), "not lost") {
		t.Errorf("one that is heard: %v", err)
	}
	d.exec(`update drone set lost_at = now() where name = 'dr-a'`)
	if _, err := d.Forget(t.Context(), "dr-a"); messages.KindOf(err) != messages.DroneHeld || !strings.Contains(err.Error(), "1 of its backends") {
		t.Errorf("one that has a backend: %v", err)
	}
	d.silence("dr-a", 2*time.Minute)
	if _, err := d.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	event, err := d.Forget(t.Context(), "dr-a")
	if err != nil || droneEvent(t, &event).Type != messages.TypeDroneForgotten {
		t.Fatalf("%+v, %v", event, err)
	}
	if n := one[int](d, `select count(*) from drone`); n != 0 {
		t.Errorf("%d drones are left", n)
	}
	// It comes back as any other, and what it ran is not its own any more.
	done, err := d.from("dr-a", "s-2", "m-dr-a", "boot", "b-1")
	if err != nil || !slices.Equal(done.Lost, []string{"b-1"}) {
		t.Errorf("%+v, %v", done, err)
	}
}
