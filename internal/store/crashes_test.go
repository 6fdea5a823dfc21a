package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// crash has the backend of a key be started and end by itself.
func (d *db) crash(key, id string) {
	d.t.Helper()
	d.spawn(key, id, "dr-a")
	code := 1
	d.transition(reported(id, messages.Ready), store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{
		Status: messages.Terminated, ExitCode: &code, Message: "no config of " + id,
	}}})
}

// rests wants a connect to be refused for the key rests, and says why.
func (d *db) rests(key string, inARow int, words string) {
	d.t.Helper()
	d.exec(`update lease set retry_at = retry_at + interval '1 minute' where name = $1`, key) // however slow the machine is
	got, rows := d.connect(want(key, "b-refused", "dr-a"))
	c := got[0].Crashes
	if got[0].Result != lease.Resting || c == nil || c.InARow != inARow || c.LastWords != words || c.RetryAfterMS < 1 || c.RetryAfterMS > 300_000 {
		d.t.Fatalf("%q is %d, %+v; want it to rest after %d failures, %q", key, got[0].Result, c, inARow, words)
	}
	// I4: a refused connect leaves nothing behind.
	if n := one[int](d, `select count(*) from backend where id = 'b-refused'`); n != 0 || len(rows) > 0 {
		d.t.Fatalf("a refused connect left %d backends and %v", n, rows)
	}
}

// The demand: from the third failure in a row on a connect is refused until the key has rested, and told what the last one died of.
func TestAKeyThatFailsRests(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	for i := range 3 {
		d.crash("k", fmt.Sprint("b-", i))
	}
	d.rests("k", 3, "exit code 1: no config of b-2")
	if c := d.status("b-0").Crashes; c == nil || c.InARow != 3 || c.RetryAfterMS < 1 || c.LastWords != "exit code 1: no config of b-2" {
		t.Errorf("the status says %+v", c)
	}
	d.spawn("other", "b-other", "dr-a") // no other key does
	if c := d.status("b-other").Crashes; c != nil {
		t.Errorf("the status of another key says %+v", c)
	}
	over := func(key string) { d.exec(`update lease set retry_at = now() where name = $1`, key) }
	over("k")
	d.crash("k", "b-4")
	d.rests("k", 4, "exit code 1: no config of b-4")

	// What somebody ended is no failure, and forgives none.
	over("k")
	d.spawn("k", "b-5", "dr-a")
	d.transition(store.Change{BackendID: "b-5", Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}},
		ends("b-5", messages.Soft, messages.ReasonExternal))
	if c := d.status("b-5").Crashes; c == nil || c.InARow != 4 || c.RetryAfterMS != 0 {
		t.Errorf("after an end that was asked for it says %+v", c)
	}
	// A life of a minute forgives all.
	d.spawn("k", "b-6", "dr-a")
	d.transition(reported("b-6", messages.Ready))
	d.exec(`update backend set changed_at = now() - interval '1 minute' where id = 'b-6'`)
	d.transition(reported("b-6", messages.Terminated))
	if c := d.status("b-6").Crashes; c != nil {
		t.Errorf("after a life of a minute it says %+v", c)
	}
}

// The demand: an operator forgives a key its failures. One whose rest is further away than any can be was told so by a clock that has stepped back since.
func TestAKeyIsForgiven(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	for i := range 3 {
		d.crash("k", fmt.Sprint("b-", i))
		d.crash("back", fmt.Sprint("c-", i))
	}
	d.rests("k", 3, "exit code 1: no config of b-2")
	for key, want := range map[string]int{"k": 3, "never": -1} {
		forgiven, ok, err := d.Forgive(t.Context(), &messages.Key{Name: key})
		if err != nil || ok != (want >= 0) || ok && forgiven != want {
			t.Errorf("%s: forgiven %d, known %t, %v", key, forgiven, ok, err)
		}
	}
	d.spawn("k", "b-next", "dr-a")
	d.exec(`update lease set retry_at = now() + interval '1 hour' where name = 'back'`)
	d.spawn("back", "c-next", "dr-a")
}

// No room on any drone, a drone that is lost, and a drone's own fault are no failures of the key.
func TestWhatIsNotTheKeysFaultIsNoFailure(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	for i, end := range []lifecycle.Event{
		lifecycle.Refused{State: messages.State{Status: messages.Terminated}},
		reportedFor(messages.Terminated, messages.ReasonInternalError),
		reportedFor(messages.Terminated, messages.ReasonKeyExpired),
	} {
		id := fmt.Sprint("b-", i)
		d.spawn("k", id, "dr-a")
		d.exec(`update outbox set created_at = now() - interval '1 hour' where backend_id = $1`, id) // too late for another drone
		d.transition(store.Change{BackendID: id, Event: end})
	}
	d.spawn("k", "b-lost", "dr-a")
	d.expire("b-lost")
	d.transition(store.Change{BackendID: "b-lost", Event: lifecycle.Lost{}})
	if n := one[int](d, `select failures from lease where name = 'k'`); n != 0 {
		t.Errorf("%d failures", n)
	}
}
