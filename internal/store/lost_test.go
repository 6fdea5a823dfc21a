package store_test

import (
	"context"
	"encoding/json"
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

// silence is a drone that has not been heard from for that long, all told.
func (d *db) silence(name string, by time.Duration) {
	d.t.Helper()
	d.exec(`update session set heard_at = now() - $2::interval, expires_at = expires_at - $2::interval, due_at = due_at - $2::interval
		where drone = $1 and sealed_at is null`, name, by)
}

func (d *db) lostDrones() (names []string, events []outbox.Row) {
	d.t.Helper()
	e, err := d.Expire(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, event := range e.Drones {
		names = append(names, event.Drone)
	}
	slices.Sort(names)
	return names, e.Drones
}

func droneEvent(t *testing.T, row *outbox.Row) (event messages.DroneEvent) {
	t.Helper()
	if err := json.Unmarshal(row.Body, &event); err != nil {
		t.Fatalf("%s: %v", row.Body, err)
	}
	return event
}

func (d *db) isLost(name string) bool {
	d.t.Helper()
	return one[bool](d, `select lost_at is not null from drone where name = $1`, name)
}

func TestDroneIsLostOnceItIsSilentForALeaseAndComesBackByANewSession(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-b", "dr-c"} {
		d.drone(name)
	}
	d.exec(`update drone set pool = 'p' where name = 'dr-b'`)
	if names, _ := d.lostDrones(); len(names) != 0 {
		t.Fatalf("lost: %v", names)
	}
	d.silence("dr-a", 40*time.Second)
	d.silence("dr-b", 61*time.Second)
	d.exec(`update session set due_at = now() where drone in ('dr-a', 'dr-c')`)
	names, events := d.lostDrones()
	if !slices.Equal(names, []string{"dr-b"}) {
		t.Fatalf("lost: %v", names)
	}
	lost := droneEvent(t, &events[0])
	if lost.Type != messages.TypeDroneLost || lost.Drone != "dr-b" || lost.Session != session || lost.Cluster != cluster || lost.Pool != "p" {
		t.Errorf("the event is %+v", lost)
	}
	msg, err := events[0].State()
	if err != nil || msg == nil || msg.Subject != messages.DroneEventSubject("dr-b") || msg.Header.Get(messages.HeaderMessageID) != lost.ID || lost.ID == "" {
		t.Errorf("it is published as %+v, %v", msg, err)
	}
	// Those that live are looked at again when their leases may end.
	for _, name := range []string{"dr-a", "dr-c"} {
		if !one[bool](d, `select due_at = expires_at from session where drone = $1`, name) {
			t.Errorf("%s is not looked at when its lease ends", name)
		}
	}
	if names, _ := d.lostDrones(); len(names) != 0 {
		t.Errorf("lost again: %v", names)
	}
	// Its session is over: it is told so, and begins a new one.
	if heard, err := d.Heartbeat(t.Context(), "dr-b", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 3000, Ready: true}); err != nil || heard.Known {
		t.Fatalf("the lost one's heartbeat: %+v, %v", heard, err)
	}
	if _, err := d.Register(t.Context(), "dr-b", registration("dr-b", session)); messages.KindOf(err) != messages.NotFound {
		t.Errorf("registered in a session that is over: %v", err)
	}
	d.register("dr-b", "s-2")
	if d.isLost("dr-b") {
		t.Error("it has registered, and is lost")
	}
	// And it may be lost again, which is another event.
	d.silence("dr-b", 2*time.Minute)
	if _, events := d.lostDrones(); len(events) != 1 || droneEvent(t, &events[0]).ID == lost.ID {
		t.Errorf("lost again: %+v", events)
	}
	if n := one[int](d, `select count(*) from outbox where kind = 'drone' and body::json ->> 'id' = $1`, lost.ID); n != 1 {
		t.Errorf("the event %s is on record %d times", lost.ID, n)
	}
}

func TestI1LostDroneThatComesBackIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-1", "b-2"} {
		d.spawn(id, id, "dr-a")
	}
	d.transition(reported("b-1", messages.Ready),
		store.Change{BackendID: "b-2", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.silence("dr-a", 61*time.Second)
	e, err := d.Expire(t.Context())
	if err != nil || len(e.Drones) != 1 || len(e.Done) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	d.wantTerminations(e.Rows)
	for _, id := range []string{"b-1", "b-2"} {
		if info := d.status(id); info.Status != messages.Terminated || info.Reason != messages.ReasonLost {
			t.Errorf("%s is %+v", id, info)
		}
	}
	// I8: no action waits for it: it learns from its registration what it must end.
	if got := one[int](d, `select count(*) from outbox where until_status is not null`); got != 0 {
		t.Errorf("%d actions are on record", got)
	}
	done, err := d.Register(t.Context(), "dr-a", registration("dr-a", "s-2", "b-1", "b-2"))
	if err != nil || !slices.Equal(done.Lost, []string{"b-1", "b-2"}) || len(done.Orphans) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	d.renew("dr-a", "s-2")
	// It is usable again, and so are the keys.
	w := want("b-1", "b-3", "dr-a")
	w.Spawn.Session = "s-2"
	if got, _ := d.connect(w); got[0].Result != lease.Acquired {
		t.Errorf("%+v", got[0])
	}
}

func TestDroneThatRegistersAnewIsTakenAsItIsNow(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.silence("dr-a", 61*time.Second)
	d.lostDrones()
	r := registration("dr-a", "s-2")
	r.Cluster, r.Pool, r.Version, r.Capacity, r.GraceMS, r.DroneTimeMS = "elsewhere.test", "gpu", "2", messages.Capacity{MaxBackends: 3}, 2000, 7
	if _, err := d.Register(t.Context(), "dr-a", r); err != nil {
		t.Fatal(err)
	}
	if drones, err := d.PlaceableDrones(t.Context()); err != nil || len(drones) != 0 {
		t.Errorf("placeable before it said that it is ready: %+v, %v", drones, err)
	}
	d.renew("dr-a", "s-2")
	drones, err := d.PlaceableDrones(t.Context())
	if err != nil || len(drones) != 1 || drones[0].Cluster != "elsewhere.test" || drones[0].Pool != "gpu" || drones[0].Session != "s-2" || drones[0].MaxBackends != 3 {
		t.Errorf("placeable: %+v, %v", drones, err)
	}
	if ms := one[int](d, `select grace_ms from drone`); ms != 2000 || d.isLost("dr-a") {
		t.Errorf("its grace is %d ms, lost: %v", ms, d.isLost("dr-a"))
	}
	if heard, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true}); err != nil || heard.Known {
		t.Errorf("the earlier session: %+v, %v", heard, err)
	}
}

func TestTwoWorkersMarkALostDroneOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	const n = 150
	d.exec(`insert into drone (name, cluster, pool, session, runtime, version, max_backends)
		select 'dr-' || i, 'c', '', 's-1', '', '', 0 from generate_series(1, $1::int) i`, n)
	d.exec(`insert into session (drone, id, machine_id, boot_id, home, drone_time_ms, heard_at, expires_at, due_at)
		select 'dr-' || i, 's-1', 'm', 'b', '', 0, now() - interval '2 minutes', now() - interval '1 minute', now() - interval '1 minute'
		from generate_series(1, $1::int) i`, n)
	var mu sync.Mutex
	lost := make(map[string]int)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for idleTurns := 0; idleTurns < 3; {
				e, err := d.Expire(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if len(e.Drones) == 0 && !e.Full {
					idleTurns++
				}
				mu.Lock()
				for _, event := range e.Drones {
					lost[event.Drone]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(lost) != n || one[int](d, `select count(*) from outbox where kind = 'drone'`) != n {
		t.Errorf("%d drones were lost, want %d", len(lost), n)
	}
	for name, times := range lost {
		if times != 1 {
			t.Errorf("%s was lost %d times", name, times)
		}
	}
}

// I8: nothing is published for ever to a drone that does not come back.
func TestI8ActionsForWhatHasEndedAreGivenUp(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-taken-over", "b-young", "b-live", "b-deleted"} {
		d.spawn(id, id, "dr-a")
		d.transition(store.Change{BackendID: id, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	}
	d.expire("b-taken-over")
	d.spawn("b-taken-over", "b-next", "dr-a")
	d.expire("b-young")
	d.transition(store.Change{BackendID: "b-young", Event: lifecycle.Lost{}})
	d.exec(`delete from backend where id = 'b-deleted'`)
	d.exec(`delete from outbox where kind in ('drone', 'state') or backend_id = 'b-next'`)
	d.exec(`update outbox set created_at = now() - interval '11 minutes' where backend_id <> 'b-young'`)
	d.exec(`update outbox set due_at = now()`)
	rows, err := d.ClaimOutbox(t.Context(), false, 100)
	if err != nil {
		t.Fatal(err)
	}
	var claimed []string
	for _, r := range rows {
		claimed = append(claimed, fmt.Sprintf("%s %s", r.BackendID, r.Kind))
	}
	slices.Sort(claimed)
	want := []string{"b-live spawn", "b-live terminate", "b-young terminate"}
	if !slices.Equal(claimed, want) {
		t.Errorf("offered again: %v, want %v", claimed, want)
	}
	if left := one[string](d, `select string_agg(distinct backend_id, ' ' order by backend_id) from outbox`); left != strings.Join([]string{"b-live", "b-young"}, " ") {
		t.Errorf("on record: %s", left)
	}
}
