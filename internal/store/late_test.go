package store_test

import (
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// I1: a heartbeat that was sent again, or that a worker took which hung, and comes after a later one, renews the lease and says nothing of the drone.
func TestI1HeartbeatThatComesLateSaysNothingOfTheDrone(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	beat := func(atMS int64, ready bool, why string) {
		t.Helper()
		heard, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{
			Session: session, DroneTimeMS: atMS, Ready: ready, NotReady: why, Load: messages.Load{Backends: int(atMS), MemoryBytes: atMS, CPUMillis: atMS},
			Spares: []messages.SpareState{{Template: "t", Ready: int(atMS)}},
		})
		if err != nil || !heard.Known {
			t.Fatalf("%+v, %v", heard, err)
		}
	}
	type row struct {
		Ready                   bool
		NotReady, Spares, Heard string
		Backends                int
		Memory, CPU, DroneTime  int64
		Renewed                 bool
	}
	state := func() (r row) {
		t.Helper()
		err := d.raw.QueryRow(t.Context(), `select ready, not_ready, spares::text, heard_at::text, load_backends, load_memory_bytes, load_cpu_millis, drone_time_ms,
			expires_at > now() + interval '55 seconds' from session`).Scan(&r.Ready, &r.NotReady, &r.Spares, &r.Heard, &r.Backends, &r.Memory, &r.CPU, &r.DroneTime, &r.Renewed)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	beat(5000, false, "its disk is full")
	d.exec(`update session set expires_at = now() + interval '20 seconds', heard_at = now() - interval '10 seconds'`)
	before := state()
	if before.Renewed || before.Ready || before.NotReady != "its disk is full" || before.Memory != 5000 || before.DroneTime != 5000 {
		t.Errorf("it is known as %+v", before)
	}
	beat(4000, true, "")
	before.Renewed = true
	if after := state(); after != before {
		t.Errorf("after one of before it is known as %+v, not %+v", after, before)
	}
	beat(5000, true, "") // the same once more, or at the same time
	if after := state(); !after.Ready || after.NotReady != "" || after.Heard == before.Heard {
		t.Errorf("after one of then it is known as %+v", after)
	}
}
