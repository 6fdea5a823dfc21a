package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/bench"
)

// The proxy's bench measures all that it names, with processes of their own, and
// every request comes through. What it measures here, beside other tests, means nothing.
func TestBenchProxy(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := measured(t, "proxy", "--nats", sharedStack(t).NATSURL, "--duration", "10ms", "--sockets", "20", "--concurrency", "4", "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.ProxyResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	ways := []string{bench.ViaDirect, bench.ViaNginx, bench.ViaJetway}
	if r.Without != "" {
		ways = []string{bench.ViaDirect, bench.ViaJetway}
		if !strings.Contains(stderr, r.Without) {
			t.Errorf("there is no nginx, and it says %s", stderr)
		}
	}
	if len(r.Memory) != len(ways) { // and over https
		t.Errorf("the memory is %+v", r.Memory)
	}
	if r.Revocations == nil || r.Revocations.Count == 0 || r.Revocations.P50 <= 0 {
		t.Errorf("the revocations are %+v", r.Revocations)
	}
	seen := make(map[string]bool)
	for _, f := range r.Loads {
		seen[f.Load+" "+f.Via] = f.Count > 0 && f.Failed == 0 && f.Rate > 0
	}
	for _, load := range bench.ProxyLoads() {
		for _, way := range ways {
			if load != "memory" && load != "revoke" && !seen[load+" "+way] {
				t.Errorf("%s, %s: not measured", load, way)
			}
		}
	}
}
