package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
)

// The bench of starts measures all that it names, containers where the tests are told of
// an engine, and without one says so. What it measures here, beside other tests, means nothing.
func TestBenchStart(t *testing.T) {
	root := buildRoom(t)
	want := []string{"process exec", "process jetway"}
	if os.Getenv("JETWAY_TEST_DOCKER") == "on" && !testing.Short() {
		want = append(want, "container docker run", "container jetway")
	} else {
		t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(root, "nobody"))
	}
	stdout, stderr, code := jetway(t, "bench", "start", "--dev", "--starts", "2", "--process-root", root, "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.StartResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	var got []string
	for _, f := range r.Starts {
		got = append(got, f.What+" "+f.By)
		if f.Count != 2 || f.P50 <= 0 || f.P99 < f.P50 || (f.OfFloorP50 > 0) != (f.By == bench.ByJetway) || (len(f.Steps) > 0) != (f.By == bench.ByJetway) {
			t.Errorf("measured %+v", f)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("measured %q, wanted %q", got, want)
	}
	if (r.Without == "") != (len(want) == 4) || !strings.Contains(stderr, r.Without) {
		t.Errorf("without Docker it says %q and prints\n%s", r.Without, stderr)
	}

	_, stderr, code = jetway(t, "bench", "start", "--dev", "--process-root", t.TempDir())
	wantCode(t, code, ExitUsage)
	if !strings.Contains(stderr, "make build") {
		t.Errorf("without room it says %s", stderr)
	}
}
