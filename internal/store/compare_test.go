package store_test

import (
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// I1: what a database that lost the last commits does not know, it could give to others while it runs. So the first
// heartbeat that reaches it asks the drone to name all that it holds, and goes on asking until that is done.
// Found in reading: a dump that is restored has the timeline of the database that it was taken of.
func TestI1HeartbeatAsksForAComparisonInAnotherDatabase(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	asks := func() bool {
		heard, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true})
		if err != nil || !heard.Known {
			t.Fatalf("heard %+v, %v", heard, err)
		}
		return heard.Compare
	}
	for what, change := range map[string]string{
		"a failover": `update session set timeline = overlay(timeline placing '000000FF' from position('.' in timeline) + 1 for 8)`,
		"a switch to another cluster, fed from this": `update session set timeline = '1' || substr(timeline, position('.' in timeline))`,
		"a restored dump": `alter table session rename to dump; create table session (like dump including all);
			insert into session table dump; drop table dump`,
	} {
		if asks() {
			t.Errorf("before %s it asks for a comparison", what)
		}
		d.exec(change)
		if !asks() || !asks() {
			t.Errorf("after %s no comparison is asked for", what)
		}
		d.register("dr-a", session)
	}
}

// Demand: a comparison of what all are agreed on says nothing, whatever it names; and what differs it tells apart.
func TestComparisonNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	for _, id := range []string{"b-held", "b-forgotten", "b-fresh", "b-untaken"} {
		d.spawn(id, id, "dr-a")
	}
	d.transition(reported("b-held", messages.Ready), reported("b-forgotten", messages.Ready), reported("b-fresh", messages.Ready))
	d.exec(`update backend set changed_at = now() - interval '1 hour' where id <> 'b-fresh'`)
	for range 2 { // it changes nothing by itself
		done, err := d.Register(t.Context(), "dr-a", registration("dr-a", session, "b-held", "b-unknown"))
		if err != nil || len(done.Lost) != 1 || done.Lost[0] != "b-unknown" {
			t.Fatalf("lost %v, %v", done.Lost, err)
		}
		if len(done.Orphans) != 1 || done.Orphans[0].BackendID != "b-forgotten" || done.Orphans[0].Of.Session != session {
			t.Fatalf("orphans %+v", done.Orphans)
		}
	}
	if _, orphans := d.register("dr-a", session, "b-held", "b-forgotten", "b-fresh", "b-untaken"); len(orphans) > 0 {
		t.Errorf("orphans %v of what is named", orphans)
	}
}
