package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// roomy registers a drone that takes so much at most, and is ready.
func (d *db) roomy(name string, capacity messages.Capacity) {
	d.t.Helper()
	r := registration(name, session)
	r.Capacity = capacity
	if _, err := d.Register(d.t.Context(), name, r); err != nil {
		d.t.Fatal(err)
	}
	d.promise(name, messages.Load{})
}

// promise has a drone say what it has promised.
func (d *db) promise(name string, load messages.Load) {
	d.t.Helper()
	heard, err := d.Heartbeat(d.t.Context(), name, &messages.HeartbeatRequest{Session: session, DroneTimeMS: 2000, Ready: true, Load: load})
	if err != nil || !heard.Known {
		d.t.Fatalf("heartbeat: known %v, %v", heard.Known, err)
	}
}

// placeable gives a drone as placement sees it.
func (d *db) placeable(name string) *placement.Drone {
	d.t.Helper()
	list, err := d.PlaceableDrones(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	d.t.Fatalf("%s is not among %v", name, list)
	return nil
}

// The snapshot that a drone is picked from and the statement that takes the lease agree
// on which drones are full, whatever it is that they are full of.
func TestFullDronesAreGivenNothing(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.roomy("dr-a", messages.Capacity{MaxBackends: 2, MaxMemoryBytes: 1000, MaxCPUMillis: 500})
	n := 0
	wantRoom := func(what string, room bool) {
		t.Helper()
		n++
		if full := d.placeable("dr-a").Full(); full == room {
			t.Errorf("%s: the snapshot says full: %v", what, full)
		}
		id := fmt.Sprintf("b-%d", n)
		got, _ := d.connect(want(id, id, "dr-a"))
		if (got[0].Result == lease.Acquired) != room {
			t.Errorf("%s: connect gives %+v", what, got[0])
		}
		if room {
			d.transition(reported(id, messages.Terminated))
		}
	}
	wantRoom("empty", true)
	for what, load := range map[string]messages.Load{
		"memory": {MemoryBytes: 1000}, "more than the memory": {MemoryBytes: 1 << 40}, "cpu": {CPUMillis: 500}, "both": {MemoryBytes: 1000, CPUMillis: 500},
	} {
		d.promise("dr-a", load)
		wantRoom(what+" promised", false)
	}
	d.promise("dr-a", messages.Load{MemoryBytes: 999, CPUMillis: 499})
	wantRoom("a little left of both", true)

	d.exec(`update session set refused = true`)
	wantRoom("it refused", false)
	d.register("dr-a", session) // the same session is as full as before
	d.promise("dr-a", messages.Load{})
	wantRoom("it has spoken since", true)

	// Nothing is counted: what it says that it has counts, and it refuses what is too much.
	d.exec(`update drone set max_backends = 2`)
	d.promise("dr-a", messages.Load{Backends: 2})
	wantRoom("as many backends as it takes", false)
	d.promise("dr-a", messages.Load{Backends: 1})
	wantRoom("one has ended", true)
	d.promise("dr-a", messages.Load{Backends: 9, MemoryBytes: 5000, CPUMillis: 5000})
	d.exec(`update drone set max_backends = 0, max_memory_bytes = 0, max_cpu_millis = 0`)
	wantRoom("no limits", true)
}

// What a full drone is refused, its neighbours in the batch are granted.
func TestI4AFullDroneInABatchFailsNobodyElse(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.roomy("dr-a", messages.Capacity{MaxBackends: 1})
	d.roomy("dr-b", messages.Capacity{MaxBackends: 1})
	d.spawn("k", "b-0", "dr-a")
	d.promise("dr-a", messages.Load{Backends: 1})
	got, rows := d.connect(want("k", "b-1", "dr-a"), want("l", "b-2", "dr-a"), want("m", "b-3", "dr-b"))
	if got[0].Result != lease.Held || got[1].Result != lease.Unheld || got[2].Result != lease.Acquired || len(rows) != 1 {
		t.Errorf("got %+v, rows %v", got, rows)
	}
}

func TestCapacityAndLoadAreListed(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	capacity := messages.Capacity{MaxBackends: 3, MaxMemoryBytes: 64 << 30, MaxCPUMillis: 16000}
	d.roomy("dr-a", capacity)
	d.spawn("k", "b-1", "dr-a")
	load := messages.Load{Backends: 1, MemoryBytes: 1 << 30, CPUMillis: 250}
	d.promise("dr-a", load)
	list := func() messages.DroneInfo {
		t.Helper()
		resp, err := d.Drones(t.Context(), &messages.DronesRequest{Page: messages.Page{Limit: 5}})
		if err != nil || len(resp.Drones) != 1 {
			t.Fatal(resp, err)
		}
		return resp.Drones[0]
	}
	if got := list(); got.Capacity != capacity || got.Load != load {
		t.Errorf("listed as %+v", got)
	}
	// A lost one that is back says what it has promised, too.
	d.exec(`update drone set lost_at = now()`)
	load.CPUMillis = 700
	d.promise("dr-a", load)
	if got := list(); got.Load != load {
		t.Errorf("after it was lost it is listed as %+v", got)
	}
	// Another session has other limits, and has promised nothing yet.
	d.register("dr-a", "s-2")
	if got := list(); got.Capacity != (messages.Capacity{}) || got.MemoryBytes != 0 || got.CPUMillis != 0 {
		t.Errorf("in a new session it is listed as %+v", got)
	}
}
