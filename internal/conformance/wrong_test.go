package conformance_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: a drone that somebody else wrote passes, and one with a fault fails the line that is about it, and says why.
func TestWrongDroneFailsItsLine(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	faults := []string{"payloads", "order", "spawn-once", "hard-deadline"} // they fail soon, however long the kit waits
	if testkit.Sized(t, false, true) {
		faults = []string{""}
		for _, check := range conformance.DroneChecks() {
			switch check.ID {
			case "register", "register-again", "spawn", "load", "back": // of one that does not do these, there is no more to see
			default:
				faults = append(faults, check.ID)
			}
		}
	}
	for _, fault := range faults {
		t.Run("fault="+fault, func(t *testing.T) {
			t.Parallel()
			name := "dr-" + fault + "x"
			runStranger(t, natstest.Conn(t, url), name, fault)
			d := conformance.Drone{Name: name, Executable: json.RawMessage(`{}`), Lease: lease, Wait: testkit.Patience, Slack: testkit.Patience}
			switch fault {
			case "":
			case "lost", "disowned", "ended-stays", "other-session", "past-deadline", "malformed", "terminate-first", "acknowledge", "report-repeated",
				"sleep", "wake", "old-nap", "nap-repeated", "sleep-ends":
				d.Wait, d.Only = 20*time.Second, []string{fault} // that it does not do something is to be seen
			default:
				d.Slack, d.Only = time.Second, []string{fault}
			}
			var last conformance.Result
			d.Say = func(r conformance.Result) {
				t.Logf("%s %s: %s", r.Verdict, r.Check, r.Why)
				if r.Verdict != conformance.Pass && r.Check != fault {
					t.Errorf("it fails %s: %s", r.Check, r.Why)
				}
				last = r
			}
			if err := d.Run(t.Context(), natstest.Conn(t, url)); err != nil {
				t.Fatal(err)
			}
			if fault != "" && (last.Check != fault || last.Verdict != conformance.Fail || last.Why == "") {
				t.Errorf("the last line is %+v, want that %s fails", last, fault)
			}
		})
	}
}
