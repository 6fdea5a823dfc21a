package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// shownNap is what status --json says of sleep; the times in it are made alike.
type shownNap struct {
	Asleep            bool
	Nap               int64
	SleepAfterSeconds int64 `json:"sleep_after_seconds"`
}

// The demand: a backend falls asleep by itself and by hand, wakes by hand, and every command that shows backends says so, for people and for
// programs.
func TestSleepOnTheCommandLine(t *testing.T) {
	t.Parallel()
	url := sharedStack(t).NATSURL
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := jetway(t, append(args, "--nats", url)...)
		if code != ExitOK || stderr != "" {
			t.Fatalf("jetway %v: exit code %d, %s", args, code, stderr)
		}
		return stdout
	}
	// A drone of a machine so slow that no worker is heard for long wakes what sleeps: then it is put to sleep again.
	asleep := func(args ...string) (shown string) {
		t.Helper()
		testkit.Eventually(t, strings.Join(args, " ")+" shows that it sleeps", func() bool {
			sleeps := run("sleep", "nap-1")
			shown = run(args...)
			return strings.HasPrefix(sleeps, "nap-1 sleeps (nap ") && (strings.Contains(shown, "ready, asleep") || strings.Contains(shown, `"asleep": true`))
		})
		return shown
	}
	begin(t, "drone", "--nats", url, "--name", "dr-nap", "--cluster", "localhost", "--pool", "nap", "--runtime", "fake", "--data-dir", t.TempDir(), "--drain-on-exit", "--drain-timeout", "1ms")
	testkit.Eventually(t, "the drone is ready", func() bool { return regexp.MustCompile(`(?m)^dr-nap +ready`).MatchString(run("drones")) })
	start := func(args ...string) {
		t.Helper()
		run(append(args, "--cluster", "localhost", "--pool", "nap", "--command", "x")...)
	}
	start("connect", "--id", "nap-1", "--key", "nap", "--namespace", "n", "--sleep-after", "1s", "--max-idle", "1h")
	watched, told := begin(t, "watch", "nap-1", "--nats", url), begin(t, "watch", "nap-1", "--json", "--nats", url)
	watched.stdout.await(t, `ready`)
	told.stdout.await(t, `"status":"ready"`)
	// Nobody ever connects.
	testkit.Eventually(t, "it falls asleep", func() bool { return strings.Contains(run("status", "nap-1"), "ready, asleep") })
	if text := asleep("status", "nap-1"); !strings.Contains(text, "sleeps after 1s with nobody connected") {
		t.Errorf("status shows %s", text)
	}
	var info shownNap
	if err := json.Unmarshal([]byte(asleep("status", "nap-1", "--json")), &info); err != nil || !info.Asleep || !messages.AsleepAt(info.Nap) || info.SleepAfterSeconds != 1 {
		t.Errorf("status --json says %+v, %v", info, err)
	}
	asleep("backends", "--key", "nap", "--namespace", "n")
	asleep("backends", "--key", "nap", "--namespace", "n", "--json")
	asleep("top", "--once", "--drone", "dr-nap")
	var rows []struct {
		BackendID string `json:"backend_id"`
		Asleep    bool
	}
	if err := json.Unmarshal([]byte(asleep("top", "--once", "--drone", "dr-nap", "--json")), &rows); err != nil || len(rows) != 1 || rows[0].BackendID != "nap-1" || !rows[0].Asleep {
		t.Errorf("top --json says %+v, %v", rows, err)
	}
	start("connect", "--id", "nap-2", "--key", "nap-2")
	if got := run("sleep", "--key", "nap-2"); got != "nap-2 sleeps (nap 1)\n" {
		t.Errorf("sleep --key prints %q", got)
	}
	if got := run("wake", "nap-2"); !regexp.MustCompile(`^nap-2 is awake \(nap \d+\)\n$`).MatchString(got) {
		t.Errorf("wake prints %q", got)
	}
	var resp messages.NapResponse
	if err := json.Unmarshal([]byte(run("wake", "--key", "nap-2", "--json")), &resp); err != nil || resp.Asleep || resp.Nap < 2 {
		t.Errorf("wake --json says %+v, %v", resp, err)
	}
	if strings.Contains(run("status", "nap-2"), "asleep") {
		t.Error("it is awake, and status says asleep")
	}
	if got := run("wake", "--key", "nap", "--namespace", "n"); !strings.HasPrefix(got, "nap-1 is awake (nap ") {
		t.Errorf("wake prints %q", got)
	}
	// Who began to watch before it fell asleep has seen that; who did not, sees the next time.
	people := regexp.MustCompile(`asleep +nap \d+\n(.|\n)*awake +nap \d+\n`)
	programs := regexp.MustCompile(`"type":"io.jetway.backend.v1.asleep","id":"nap-1.nap-\d+"(.|\n)*"type":"io.jetway.backend.v1.awake","id":"nap-1.nap-\d+"`)
	testkit.Eventually(t, "who watches sees it fall asleep and wake", func() bool {
		run("sleep", "nap-1")
		run("wake", "nap-1")
		return people.MatchString(watched.stdout.String()) && programs.MatchString(told.stdout.String())
	})
	for _, id := range []string{"nap-1", "nap-2"} {
		run("terminate", id, "--hard")
	}
}

// The demand: what cannot sleep is refused with the reason and what to do, before anybody is asked where that can be.
func TestWhatCannotSleepIsRefused(t *testing.T) {
	t.Parallel()
	url := sharedStack(t).NATSURL
	run := func(args ...string) (stderr string, code int) {
		t.Helper()
		_, stderr, code = jetway(t, append(args, "--nats", url)...)
		return stderr, code
	}
	for id, executable := range map[string]string{"nap-slow": `{"fake":{"prepare_for":"1h"}}`, "nap-stays": `{"fake":{"ignore_term":true}}`, "nap-over": `{}`, "nap-bad": `{"fake":{"sleep_error":"the freezer is broken"}}`} {
		args := []string{"connect", "--id", id, "--executable", executable}
		if id == "nap-slow" {
			args = append(args, "--no-wait")
		}
		if stderr, code := run(args...); code != ExitOK {
			t.Fatal(stderr)
		}
	}
	run("terminate", "nap-over", "--hard")
	run("terminate", "nap-stays", "--no-wait")
	const leaves = "nap-stays (is (hard-)?terminating: it ends|was asked to end|has ended)" // its grace may be over
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"sleep nap-slow", "nap-slow is (scheduled|loading): only what is ready sleeps", ExitFailed},
		{"sleep nap-stays", leaves, ExitFailed},
		{"wake nap-stays", leaves, ExitFailed},
		{"sleep nap-over", "nap-over has ended", ExitFailed},
		{"wake nap-over", "nap-over has ended", ExitFailed},
		{"sleep nosuch", `no backend "nosuch"`, ExitFailed},
		{"wake --key nosuch", `nosuch`, ExitFailed},
		{"sleep", "BACKEND: is missing", ExitUsage},
		{"sleep NO", "BACKEND: must have 1 to 45 characters of a-z", ExitUsage},
		{"sleep nap-over --key x", "not both", ExitUsage},
		{"connect --command x --sleep-after 2m --max-idle 1m", "--sleep-after: is 120, .*ends after --max-idle, which is 60", ExitUsage},
		{"connect --command x --sleep-after 2m --lifetime 2m", "--sleep-after: is 120, .*ends after --lifetime, which is 120", ExitUsage},
		{"connect --command x --sleep-after 1500ms", "--sleep-after: must be whole seconds", ExitUsage},
		{"connect --command x --sleep-after=-1s", "--sleep-after", ExitUsage},
	} {
		stderr, code := run(strings.Fields(c.args)...)
		if code != c.code || !regexp.MustCompile(c.says).MatchString(stderr) {
			t.Errorf("jetway %s: exit code %d, %s", c.args, code, stderr)
		}
	}
	// What its drone cannot freeze is awake again, and says so.
	if stderr, code := run("sleep", "nap-bad"); code != ExitOK {
		t.Error(stderr)
	}
	testkit.Eventually(t, "it is awake", func() bool {
		stdout, _, _ := jetway(t, "status", "nap-bad", "--json", "--nats", url)
		var info shownNap
		return json.Unmarshal([]byte(stdout), &info) == nil && !info.Asleep && info.Nap >= 2
	})
	for _, id := range []string{"nap-slow", "nap-stays", "nap-bad"} {
		run("terminate", id, "--hard", "--no-wait")
	}
}
