package cli

import (
	"encoding/json"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
)

// The gateway's bench measures both ways, and every join comes through. What it measures here, beside other tests, means
// nothing.
func TestBenchGateway(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	stdout, stderr, code := measured(t, "gateway", "--nats", s.NATSURL, "--gateway", s.GatewayURL, "--duration", "10ms", "--turns", "1", "--concurrency", "4", "--keys", "4", "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.GatewayResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if r.NATS.Count == 0 || r.Gateway.Count == 0 || r.Ratio <= 0 {
		t.Errorf("measured %+v", r)
	}
}
