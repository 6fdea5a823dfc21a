package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// The demand: a session that has ended is found among the keys as dormant, its URL stays, a connect that says nothing of what to start starts it, and it is
// forgotten when that is asked, also when there is nothing to end.
func TestResumeFromTheCommandLine(t *testing.T) {
	t.Parallel()
	stack := sharedStack(t)
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := jetway(t, append(args, "--nats", stack.NATSURL)...)
		if code != 0 {
			t.Fatalf("jetway %s: exit code %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
		}
		return stdout
	}
	connect := func(args ...string) (resp messages.ConnectResponse) {
		t.Helper()
		if err := json.Unmarshal([]byte(run(append([]string{"connect", "--json", "--no-wait", "--key", "doc-1", "--namespace", "resume"}, args...)...)), &resp); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := connect("--command", "room", "--resume", "720h")
	if said := run("status", first.BackendID); !strings.Contains(said, "its URL starts it again for 30d") {
		t.Errorf("status says %s", said)
	}
	if said := run("terminate", first.BackendID); !strings.Contains(said, "its key is dormant until") {
		t.Errorf("terminate says %s", said)
	}
	if said := run("status", first.BackendID); !strings.Contains(said, "dormant") {
		t.Errorf("status says %s", said)
	}
	if said := run("keys", "oc-", "--namespace", "resume", "--state", "dormant"); !strings.Contains(said, "resume/doc-1") || !strings.Contains(said, "dormant for another") || !strings.Contains(said, first.BackendID) {
		t.Errorf("keys says %s", said)
	}
	next := connect()
	if next.URL != first.URL || next.Resumes != first.BackendID {
		t.Errorf("after %+v comes %+v", first, next)
	}
	if said := run("keys", "--namespace", "resume", "--json", "--limit", "1"); !strings.Contains(said, `"state": "live"`) {
		t.Errorf("keys says %s", said)
	}
	run("terminate", next.BackendID)
	if said := run("terminate", "--key", "doc-1", "--namespace", "resume", "--forget"); !strings.Contains(said, "resume/doc-1 is forgotten") {
		t.Errorf("terminate says %s", said)
	}
	if said := strings.TrimSpace(run("keys", "--namespace", "resume", "--json")); said != "[]" {
		t.Errorf("keys says %s", said)
	}
	// Of one that runs, it ends that, too.
	connect("--command", "room", "--resume", "1h")
	if said := run("terminate", "--key", "doc-1", "--namespace", "resume", "--forget"); !strings.Contains(said, "terminated") || strings.Contains(said, "dormant") {
		t.Errorf("terminate says %s", said)
	}
	for args, want := range map[string]string{
		"connect --command room --resume 1h":            "needs a key",
		"connect --key k --command room --resume 100ms": "--resume: must be whole seconds",
		"keys --state dead":                             "--state",
		"keys --limit=-1":                               "--limit: must be 1 or more",
		"terminate --forget":                            "BACKEND",
	} {
		if _, stderr, code := jetway(t, strings.Fields(args)...); code != ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("jetway %s: exit code %d, %q", args, code, stderr)
		}
	}
}
