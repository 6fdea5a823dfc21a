package cli

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
)

// What is measured of processes, and last.
var processes = []string{"process exec", "process jetway", "process jetway, a spare", "process that loads for 1 s exec", "process that loads for 1 s jetway, a spare"}

const crowd = "3 at once: process jetway, a spare"

// The bench of starts measures all that it names. What it measures here, beside other tests, means nothing.
func TestBenchStart(t *testing.T) {
	t.Parallel()
	dockertest.Needs(t)
	_, without := benchStart(t, []string{"--nats", sharedStack(t).NATSURL}, append(slices.Clone(processes), "container docker run", "container jetway", "container jetway, a spare", crowd)...)
	want(t, "why there is something missing", without, "")
}

// Without an engine it says that there are no containers.
func TestBenchStartWithoutAnEngine(t *testing.T) {
	testkit.Long(t) // a stack of its own
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "nobody"))
	stderr, without := benchStart(t, []string{"--dev"}, append(slices.Clone(processes), crowd)...)
	if without == "" || !strings.Contains(stderr, without) {
		t.Errorf("without Docker it says %q and prints\n%s", without, stderr)
	}
}

func TestBenchStartWithoutRoom(t *testing.T) {
	t.Parallel()
	_, stderr, code := measured(t, "start", "--dev", "--process-root", t.TempDir())
	wantCode(t, code, ExitUsage)
	if !strings.Contains(stderr, "make build") {
		t.Errorf("without room it says %s", stderr)
	}
}

// benchStart runs the bench of starts, and wants it to measure each of these.
func benchStart(t *testing.T, stack []string, want ...string) (stderr, without string) {
	t.Helper()
	starts := testkit.Sized(t, 1, 2)
	args := append([]string{"start", "--starts", strconv.Itoa(starts), "--at-once", "3", "--process-root", roomRoot(t), "--json"}, stack...)
	stdout, stderr, code := measured(t, args...)
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
		atOnce := strings.HasPrefix(f.What, "3 at once")
		isOurs := f.By != bench.ByExec && f.By != bench.ByDockerRun && !atOnce
		if f.Count != starts && !atOnce || f.P50 <= 0 || f.P99 < f.P50 || (f.OfFloorP50 > 0) != isOurs || (len(f.Steps) > 0) != isOurs {
			t.Errorf("measured %+v", f)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("measured %q, wanted %q", got, want)
	}
	return stderr, r.Without
}
