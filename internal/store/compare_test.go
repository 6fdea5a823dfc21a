package store_test

import (
	"testing"

	"github.com/jetway-project/jetway/messages"
)

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
