package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

func TestSizesOfStreamsAreChecked(t *testing.T) {
	t.Parallel()
	for args, line := range map[string]string{
		"worker --postgres :: --stream-actions lots": `--stream-actions: must be a number of bytes like 64MiB or 2GB, 4.0 MiB to 1PiB, not "lots"`,
		"worker --postgres :: --stream-events 3MiB":  "--stream-events: must be a number of bytes",
		"dev --stream-logs 2PiB":                     "--stream-logs: must be a number of bytes",
	} {
		if _, stderr, code := jetway(t, strings.Fields(args)...); code != ExitUsage || !strings.Contains(stderr, line) {
			t.Errorf("jetway %s: exit code %d, %q", args, code, stderr)
		}
	}
}

// With the rights that a worker has in deploy/nats it can say what the account has too little of, and that the
// streams have a leader.
func TestWorkersRightsSufficeToSayWhatIsWrongWithJetStream(t *testing.T) {
	g := newGuarded(t)
	dsn := pgtest.Database(t)
	// The server has 512 MB of memory, and the account no limit of its own.
	g.role("worker", "worker", "--name", "wo-1", "--postgres", dsn, "--stream-actions", "1GiB").
		await(t, `cannot start yet.*reserves 1\.0 GiB of memory.*the account has no limit.*give --stream-actions less`)
	worker := g.role("worker", "worker", "--name", "wo-2", "--postgres", dsn, "--stream-actions", "64MiB", "--stream-events", "64MiB", "--metrics-addr", "127.0.0.1:0")
	url := worker.await(t, `"msg":"serving metrics and health".*"url":"([^"]+)"`)[1]
	worker.await(t, "answering requests")
	testkit.Eventually(t, "the worker is ready", func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}
