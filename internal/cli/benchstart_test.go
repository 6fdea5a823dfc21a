package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The bench of starts measures all that it names, and without an engine says that there
// are no containers. What it measures here, beside other tests, means nothing.
func TestBenchStart(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "nobody"))
	stderr, without := benchStart(t, []string{"--dev"}, "process exec", "process jetway")
	if without == "" || !strings.Contains(stderr, without) {
		t.Errorf("without Docker it says %q and prints\n%s", without, stderr)
	}

	_, stderr, code := jetway(t, "bench", "start", "--dev", "--process-root", t.TempDir())
	wantCode(t, code, ExitUsage)
	if !strings.Contains(stderr, "make build") {
		t.Errorf("without room it says %s", stderr)
	}
}

// With an engine it measures containers as well.
func TestBenchStartOfContainers(t *testing.T) {
	testkit.NeedsDocker(t)
	t.Parallel()
	_, without := benchStart(t, []string{"--nats", sharedStack(t).NATSURL}, "process exec", "process jetway", "container docker run", "container jetway")
	want(t, "why there is something missing", without, "")
}

// benchStart runs the bench of starts, and wants it to measure each of these.
func benchStart(t *testing.T, stack []string, want ...string) (stderr, without string) {
	t.Helper()
	args := append([]string{"bench", "start", "--starts", "2", "--process-root", roomRoot(t), "--json"}, stack...)
	stdout, stderr, code := jetway(t, args...)
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
	return stderr, r.Without
}
