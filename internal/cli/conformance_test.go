package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: jetway conformance tries a drone line by line, for people and for programs, and its exit code says whether all is right.
func TestConformanceTriesADrone(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	begin(t, "drone", "--nats", url, "--name", "dr-ours", "--cluster", "localhost:9090", "--runtime", "fake", "--data-dir", t.TempDir())
	stdout, stderr, code := jetway(t, "conformance", "drone", "dr-ours", "--nats", url, "--only", "register-again", "--wait", "2m", "--json")
	wantCode(t, code, ExitOK)
	want(t, "what is said last", stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:], "jetway: all 2 checks pass\n")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for i, id := range []string{"register", "register-again"} {
		var result conformance.Result
		if err := json.Unmarshal([]byte(lines[i]), &result); err != nil || result.Check != id || result.Verdict != conformance.Pass {
			t.Errorf("line %d is %s: %v", i, lines[i], err)
		}
	}
}

// The demand: who plays the workers where one runs is told so, and a drone that does not come fails.
func TestConformanceSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		"jetway.drone.*.heartbeat": func([]byte) any { return map[string]any{} },
	})
	_, stderr, code := jetway(t, "conformance", "drone", "dr-x", "--nats", w.url)
	wantCode(t, code, ExitFailed)
	if !strings.Contains(stderr, "a worker, or another run of this, answers on jetway.drone.dr-x.heartbeat of this NATS server (worker-runs): name a NATS server with --nats where no worker runs") {
		t.Errorf("where a worker runs: %s", stderr)
	}
	stdout, stderr, code := jetway(t, "conformance", "proxy", "px-x", "--nats", w.url, "--url", "http://127.0.0.1:1", "--only", "announce,path", "--wait", "1s")
	wantCode(t, code, ExitFailed)
	for _, part := range []string{"FAIL  announce", "SKIP  path", "not tried: it builds on route", "see messages/PROTOCOL.md#requests-and-replies"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("%q is not in\n%s", part, stdout)
		}
	}
	if !strings.Contains(stderr, "jetway: 2 of 3 checks fail (not-conformant)") {
		t.Errorf("it ends with %s", stderr)
	}
	for args, line := range map[string]string{
		"drone nosuch":                                 "NAME: must be",
		"drone dr-x --only nosuch":                     `--only: there is no check "nosuch"; there are register, `,
		"drone dr-x --executable 3":                    "--executable: must be a JSON object",
		"drone dr-x --lease 1ms":                       "--lease: must be 1s to 10m",
		"proxy px-x --url localhost":                   "--url: must be like http://127.0.0.1:9090",
		"proxy px-x --url http://127.0.0.1:1 --wait 0": "--wait: ",
	} {
		_, stderr, code := jetway(t, append([]string{"conformance"}, strings.Fields(args)...)...)
		if code != ExitUsage || !strings.Contains(stderr, line) {
			t.Errorf("%s: %d, %s", args, code, stderr)
		}
	}
}
