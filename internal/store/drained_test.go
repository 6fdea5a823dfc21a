package store_test

import (
	"context"
	"testing"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

func (d *db) drainOf(r messages.DrainRequest, off bool) (messages.DrainResponse, int) {
	d.t.Helper()
	resp, rows, ok, err := d.Drain(context.Background(), &r, off)
	if err != nil || !ok {
		d.t.Fatalf("drain: %v %v", ok, err)
	}
	return resp, len(rows)
}

// The demand: a drain that is to be over after some time ends softly what is left then, whoever is there to see it, and also what was
// placed by a connect that was under way; an undrain forgets the end, and asking for the count does not move it.
func TestDrainIsOverAfterItsTime(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	for _, drone := range []string{"dr-a", "dr-b"} {
		d.drone(drone)
	}
	d.spawn("one", "b-one", "dr-a")
	d.spawn("two", "b-two", "dr-a")
	d.spawn("other", "b-other", "dr-b")
	resp, events := d.drainOf(messages.DrainRequest{Drone: "dr-a"}, false)
	if resp.EndInSeconds != nil || resp.Backends != 2 || events != 1 {
		t.Errorf("a drain without an end says %+v, with %d events", resp, events)
	}
	resp, events = d.drainOf(messages.DrainRequest{Drone: "dr-a", EndAfterSeconds: new(int64(600))}, false)
	if resp.EndInSeconds == nil || *resp.EndInSeconds < 300 || *resp.EndInSeconds > 600 || events != 0 {
		t.Errorf("with one it says %+v, with %d events", resp, events)
	}
	d.exec(`update drone set drain_ends_at = drain_ends_at - interval '250 s'`)
	if resp, _ = d.drainOf(messages.DrainRequest{Drone: "dr-a"}, false); resp.EndInSeconds == nil || *resp.EndInSeconds > 350 {
		t.Errorf("asked again it says %+v", resp)
	}
	d.wantSweep(nil)
	d.transition(store.Change{BackendID: "b-two", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	d.exec(`update drone set drain_ends_at = now() - interval '1 s' where name = 'dr-a'`)
	if resp, _ = d.drainOf(messages.DrainRequest{Drone: "dr-a"}, false); resp.EndInSeconds == nil || *resp.EndInSeconds != 0 {
		t.Errorf("when it is over it says %+v", resp)
	}
	rows := d.wantSweep(map[string]store.Cause{"b-one": store.CauseDrained})
	d.wantTerminations(rows, `b-one {"hard":false,"reason":"external"}`)
	d.wantSweep(nil)
	// A drone that is not drained any more keeps what it gets.
	if resp, _ = d.drainOf(messages.DrainRequest{Drone: "dr-a"}, true); resp.EndInSeconds != nil {
		t.Errorf("undrained it says %+v", resp)
	}
	d.spawn("three", "b-three", "dr-a")
	d.wantSweep(nil)
	if resp, _ = d.drainOf(messages.DrainRequest{Drone: "dr-a"}, false); resp.EndInSeconds != nil {
		t.Errorf("drained again it says %+v", resp)
	}
}
