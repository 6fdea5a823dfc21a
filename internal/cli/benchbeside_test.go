package cli

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The bench of heartbeats sees those of its drones, which do not name what is held, and says what everything takes
// of a core. What it measures here, beside other tests, means nothing.
func TestBenchHeartbeat(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := measured(t, "heartbeat", "--dev", "--lease-ttl", "15s", "--backends", "50", "--drones", "2",
		"--window", "100ms", "--for", "100ms", "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.HeartbeatResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if len(r.All()) != 3 {
		t.Fatalf("measured %+v", r)
	}
	for _, f := range r.All()[1:] {
		// The names of 50 backends would be more than 700 bytes.
		if f.Count < 2 || f.Bytes < 100 || f.Bytes > 700 || f.Seconds <= 0 {
			t.Errorf("measured %+v", f)
		}
		if runtime.GOOS == "linux" && f.Core <= 0 {
			t.Errorf("it used nothing of a core: %+v", f)
		}
	}
}

func TestBenchBesideNothing(t *testing.T) {
	t.Parallel()
	_, stderr, code := measured(t, "beside", "--other", os.DevNull+"/nothing")
	wantCode(t, code, ExitUsage)
	if !strings.Contains(stderr, "the other build") {
		t.Errorf("without another build it says %s", stderr)
	}
}

// A build is measured beside itself.
func TestBenchBeside(t *testing.T) {
	testkit.Long(t) // two stacks; TestBenchHeartbeat has one of them
	t.Parallel()
	self, err := os.Executable() // is jetway, where it is told what to do
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := measured(t, "beside", "--other", self, "--turns", "1", "--duration", "10ms", "--no-heartbeats", "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var figures []bench.Beside
	if err := json.Unmarshal([]byte(stdout), &figures); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	for _, f := range figures {
		if f.Unit != "µs of CPU each" && (f.This <= 0 || f.Other <= 0 || f.Ratio <= 0 || f.Turns != 1) {
			t.Errorf("measured %+v", f)
		}
	}
}
