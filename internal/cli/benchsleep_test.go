package cli

import (
	"encoding/json"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The bench of sleep measures all that it names. What it measures here, beside other tests, means nothing.
func TestBenchSleep(t *testing.T) {
	testkit.Long(t) // a stack of its own
	t.Parallel()
	stdout, stderr, code := measured(t, "sleep", "--visits", "2", "--sleepers", "3", "--window", "1s", "--process-root", roomRoot(t), "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.SleepResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if kinds := len(r.Visits) / 3; len(r.Visits)%3 != 0 || kinds < 1 || kinds == 1 && r.Without == "" {
		t.Errorf("without %q it measured %+v", r.Without, r.Visits)
	}
	for _, f := range r.Visits {
		if f.Count != 2 || f.P50 <= 0 || (f.OfAwake > 0) != (f.How != bench.VisitAwake) {
			t.Errorf("measured %+v", f)
		}
	}
	if len(r.Rest) != 3 || r.Rest[0].Backends != 0 || r.Rest[1].Backends != 3 || r.Rest[2].What != "asleep" {
		t.Errorf("measured %+v", r.Rest)
	}
}
