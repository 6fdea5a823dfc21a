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

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// silence is a drone that has not been heard from for that long, all told.
func (d *db) silence(name string, by time.Duration) {
	d.t.Helper()
	d.exec(`update drone set heard_at = now() - $2::interval, due_at = due_at - $2::interval where name = $1`, name, by)
}

func (d *db) lostDrones() (names []string, events []outbox.Row) {
	d.t.Helper()
	events, _, err := d.LostDrones(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range events {
		names = append(names, e.Drone)
	}
	slices.Sort(names)
	return names, events
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

func TestDroneIsLostOnceItIsSilentForALeaseAndComesBackByAHeartbeat(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-b", "dr-c"} {
		d.drone(name)
	}
	d.exec(`update drone set pool = 'p' where name = 'dr-b'`)
	if names, _ := d.lostDrones(); len(names) != 0 {
		t.Fatalf("lost: %v", names)
	}
	d.silence("dr-a", 59*time.Second)
	d.silence("dr-b", 61*time.Second)
	d.exec(`update drone set due_at = now() where name = 'dr-c'`)
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
	// Those that live are looked at again when they may be lost.
	for name, within := range map[string]time.Duration{"dr-a": time.Second, "dr-c": 60 * time.Second} {
		if left := one[float64](d, `select extract(epoch from due_at - now()) from drone where name = $1`, name); left <= 0 || left > within.Seconds() {
			t.Errorf("%s is looked at in %v s", name, left)
		}
	}
	if names, _ := d.lostDrones(); len(names) != 0 {
		t.Errorf("lost again: %v", names)
	}

	beat := messages.HeartbeatRequest{Session: session, DroneTimeMS: 3000, Ready: true}
	heard, err := d.Heartbeat(t.Context(), "dr-b", &beat)
	if err != nil || !heard.Known || heard.Back == nil {
		t.Fatalf("the lost one's heartbeat: %+v, %v", heard, err)
	}
	back := droneEvent(t, heard.Back)
	if back.Type != messages.TypeDroneRegistered || back.Session != session || back.Pool != "p" || back.ID == lost.ID {
		t.Errorf("the event is %+v", back)
	}
	if heard, err = d.Heartbeat(t.Context(), "dr-b", &beat); err != nil || heard.Back != nil || d.isLost("dr-b") {
		t.Errorf("the next heartbeat: %+v, %v", heard, err)
	}
	// And it may be lost again, which is another event.
	d.silence("dr-b", 2*time.Minute)
	if _, events := d.lostDrones(); len(events) != 1 || droneEvent(t, &events[0]).ID == lost.ID {
		t.Errorf("lost again: %+v", events)
	}
	d.register("dr-b", "s-2")
	if d.isLost("dr-b") {
		t.Error("it has registered, and is lost")
	}
	for _, id := range []string{lost.ID, back.ID} {
		if n := one[int](d, `select count(*) from outbox where kind = 'drone' and body::json ->> 'id' = $1`, id); n != 1 {
			t.Errorf("the event %s is on record %d times", id, n)
		}
	}
}

func TestI1LostDroneThatComesBackIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-1", "b-2", "b-late"} {
		d.spawn(id, id, "dr-a")
	}
	d.transition(reported("b-1", messages.Ready),
		store.Change{BackendID: "b-2", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}},
		store.Change{BackendID: "b-late", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.silence("dr-a", 61*time.Second)
	for _, id := range []string{"b-1", "b-2"} {
		d.expire(id)
		d.look(id)
	}
	d.lostDrones()
	// I3: one placed shortly before the drone fell silent may still be run.
	on := `select coalesce(string_agg(backend_id || ' ' || kind, ',' order by id), '') from outbox where until_status is not null`
	if got := one[string](d, on); got != "b-2 spawn,b-late spawn,b-late terminate" {
		t.Errorf("actions on record of a lost drone: %s", got)
	}
	rows := d.wantSweep(map[string]store.Cause{"b-1": store.CauseLost, "b-2": store.CauseLost})
	d.wantTerminations(rows)
	if got := one[string](d, on); got != "b-late spawn,b-late terminate" {
		t.Errorf("actions on record once its backends are lost: %s", got)
	}
	if got := d.renew("dr-a", session, "b-1", "b-2", "b-late"); !slices.Equal(got, []string{"b-late"}) {
		t.Errorf("it is left with %v", got)
	}
	// It is usable again.
	d.spawn("b-1", "b-3", "dr-a")
	if got := d.renew("dr-a", session, "b-3"); len(got) != 1 {
		t.Error("what it was given since is not its own")
	}
}

func TestDroneThatRegistersAnewIsTakenAsItIsNow(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.silence("dr-a", 61*time.Second)
	d.lostDrones()
	_, _, _, err := d.Register(t.Context(), "dr-a", &messages.RegisterRequest{
		Session: "s-2", Cluster: "elsewhere.test", Pool: "gpu", Version: "2", Capacity: messages.Capacity{MaxBackends: 3}, GraceMS: 2000, DroneTimeMS: 7,
	})
	if err != nil {
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
	d.exec(`insert into drone (name, cluster, pool, session, runtime, version, max_backends, drone_time_ms, heard_at, due_at)
		select 'dr-' || i, 'c', '', 's-1', '', '', 0, 0, now() - interval '2 minutes', now() - interval '1 minute' from generate_series(1, $1) i`, n)
	var mu sync.Mutex
	lost := make(map[string]int)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for idleTurns := 0; idleTurns < 3; {
				events, full, err := d.LostDrones(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if len(events) == 0 && !full {
					idleTurns++
				}
				mu.Lock()
				for _, e := range events {
					lost[e.Drone]++
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
