package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// shapes are the kinds of what --json prints: one object, one array, or an object a line.
const (
	object = "object"
	array  = "array"
	lines  = "lines"
)

func shapeOf(stdout string) string {
	var one map[string]any
	var many []any
	switch {
	case json.Unmarshal([]byte(stdout), &one) == nil:
		return object
	case json.Unmarshal([]byte(stdout), &many) == nil:
		return array
	}
	for line := range strings.Lines(stdout) {
		if json.Unmarshal([]byte(line), &one) != nil {
			return "nothing that can be read: " + stdout
		}
	}
	return lines
}

// documented reads the table of deploy/README.md: the shape by command.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## JSON of the commands\n")
	shapes := make(map[string]string)
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if strings.HasPrefix(line, "## ") {
			break
		}
		if len(cells) < 4 {
			continue
		}
		shape, _, _ := strings.Cut(strings.Trim(strings.TrimSpace(cells[2]), "*"), " ")
		for name := range strings.SplitSeq(cells[1], ",") {
			shapes[strings.Trim(name, " `")] = shape
		}
	}
	return shapes
}

// The demand: with --json each command prints one shape, as the table of deploy/README.md says, and errors are one object
// on standard error, whatever is wrong.
func TestJSONOfEveryCommand(t *testing.T) {
	t.Parallel()
	url := sharedStack(t).NATSURL
	begin(t, "drone", "--nats", url, "--name", "dr-json", "--cluster", "localhost", "--pool", "json", "--runtime", "fake", "--data-dir", t.TempDir())
	testkit.Eventually(t, "the drone is ready", func() bool {
		stdout, _, _ := jetway(t, "drones", "--nats", url)
		return regexp.MustCompile(`(?m)^dr-json +ready`).MatchString(stdout)
	})
	shapes := documented(t)
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := jetway(t, append(args, "--json", "--nats", url)...)
		if code != ExitOK || stderr != "" {
			t.Fatalf("jetway %v: exit code %d, %s", args, code, stderr)
		}
		command, _, _ := strings.Cut(strings.Join(args, " "), " -")
		for ; shapes[command] == "" && strings.Contains(command, " "); command = command[:strings.LastIndex(command, " ")] {
		}
		want := shapes[command]
		for _, option := range []string{"--once", "--watch"} {
			if s := shapes[command+" "+option]; s != "" && slices.Contains(args, option) {
				want = s
			}
		}
		if got := shapeOf(stdout); got != want && (want != lines || got != object) { // one line is one object
			t.Errorf("jetway %v prints %s, and deploy/README.md says %q", args, got, want)
		}
		return stdout
	}
	var got messages.ConnectResponse
	if err := json.Unmarshal([]byte(run("connect", "--key", "json", "--pool", "json", "--cluster", "localhost", "--command", "x")), &got); err != nil || got.Status != messages.Ready {
		t.Errorf("connect says %+v: %v", got, err)
	}
	run("status", got.BackendID)
	run("backends", "--drone", "dr-json", "--status", "ready", "--since", "1h", "--limit", "1")
	run("sleep", got.BackendID)
	run("wake", "--key", "json")
	run("drones")
	run("keys", "--limit", "1")
	run("workers")
	testkit.Eventually(t, "the proxy answers", func() bool { return strings.Contains(run("proxies"), `"name": "px-`) })
	run("revoke", got.BackendID, "--user", "nobody")
	var drained drainState
	if err := json.Unmarshal([]byte(run("drain", "dr-json", "--no-wait", "--end-after", "1h")), &drained); err != nil || !drained.Draining || drained.EndInSeconds == nil {
		t.Errorf("drain says %+v: %v", drained, err)
	}
	var undrained drainState // as drain, and none of its own
	if err := json.Unmarshal([]byte(run("undrain", "dr-json")), &undrained); err != nil || undrained.Draining || undrained.EndInSeconds != nil || undrained.Drone != "dr-json" {
		t.Errorf("undrain says %+v: %v", undrained, err)
	}
	var ended struct{ Status messages.Status } // the times in it are made alike
	if err := json.Unmarshal([]byte(run("terminate", got.BackendID)), &ended); err != nil || ended.Status != messages.Terminated {
		t.Errorf("terminate says %+v: %v", ended, err)
	}
	run("top", "--once", "--drone", "dr-json") // nobody is left who had to say what it uses
	if n := strings.Count(run("watch", got.BackendID), "\n"); n < 3 {
		t.Errorf("watch shows %d states", n)
	}
	run("logs", got.BackendID)
	if stdout, _, _ := jetway(t, "version", "--json"); shapeOf(stdout) != shapes["version"] {
		t.Errorf("version prints %s", stdout)
	}

	// No command is left out of the table, and none stands in it that there is not.
	parser, err := newParser(&grammar{}, Process{Stdout: newOutput(), Stderr: newOutput()})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		has := slices.ContainsFunc(leaf.Flags, func(f *kong.Flag) bool { return f.Name == "json" })
		if name := leaf.Path(); has != (shapes[strings.TrimPrefix(name, "jetway ")] != "") {
			t.Errorf("%s has --json: %v, and deploy/README.md says %q", name, has, shapes[name])
		}
	}
}

// The demand: what is not there is an error that says so, with exit code 1, in every command that names it, and
// what is wrongly used one with exit code 2; for programs as JSON.
func TestWhatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	url := sharedStack(t).NATSURL
	held, stderr, code := jetway(t, "connect", "--nats", url, "--key", "there", "--command", "x", "--no-wait", "--json")
	if code != ExitOK {
		t.Fatal(stderr)
	}
	var got messages.ConnectResponse
	if err := json.Unmarshal([]byte(held), &got); err != nil {
		t.Fatal(err)
	}
	for args, kind := range map[string]string{
		"status nosuch":                         "NotFound",
		"status --key nosuch":                   "NotFound",
		"watch nosuch":                          "NotFound",
		"watch --key nosuch":                    "NotFound",
		"logs nosuch":                           "NotFound",
		"logs -f --key nosuch":                  "NotFound",
		"terminate nosuch":                      "NotFound",
		"terminate --key nosuch":                "NotFound",
		"sleep nosuch":                          "NotFound",
		"wake --key nosuch":                     "NotFound",
		"revoke nosuch --user ada":              "NotFound",
		"revoke --token x " + got.BackendID:     "NotFound",
		"backends --drone dr-nosuch":            "NotFound",
		"backends --drone dr-nosuch --all":      "NotFound",
		"backends --key nosuch":                 "NotFound",
		"backends --key there --namespace nope": "NotFound",
		"top --once --drone dr-nosuch":          "NotFound",
		"drain dr-nosuch":                       "NotFound",
		"undrain dr-nosuch":                     "NotFound",
		"connect --key nosuch":                  "KeyUnheldNoSpawnConfig",
		"connect --cluster nosuch --command x":  "NoDroneAvailable",
		"connect --pool nosuch --command x":     "NoDroneAvailable",
		"drain nosuch":                          "usage",
		"backends --status nosuch":              "usage",
		"backends --limit=-1":                   "usage",
		"backends --since 1ms":                  "usage",
		"backends --watch --limit 3":            "usage",
		"drain dr-nosuch --end-after=-1s":       "usage",
		"nosuch":                                "usage",
	} {
		wanted := ExitFailed
		if kind == "usage" {
			wanted = ExitUsage
		}
		arguments := append(strings.Fields(args), "--json")
		if args != "nosuch" {
			arguments = append(arguments, "--nats", url)
		}
		var stdout, stderr string
		var code int
		testkit.Eventually(t, args+" is answered", func() bool { // a worker of a busy machine may say that it cannot
			stdout, stderr, code = jetway(t, arguments...)
			return code != ExitUnavailable
		})
		var e jsonError
		if err := json.Unmarshal([]byte(stderr), &e); err != nil || stdout != "" || code != wanted || e.Error.Kind != kind || e.Error.ExitCode != code || e.Error.Message == "" {
			t.Errorf("jetway %s: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// The demand: a list is followed: what changes is shown again, what leaves it a last time, and Ctrl-C ends with the code that the help names.
func TestBackendsAreFollowed(t *testing.T) {
	t.Parallel()
	url := sharedStack(t).NATSURL
	connect := func(key string) {
		t.Helper()
		if _, stderr, code := jetway(t, "connect", "--nats", url, "--key", key, "--namespace", "follow", "--command", "x"); code != ExitOK {
			t.Fatal(stderr)
		}
	}
	connect("one")
	followed := begin(t, "backends", "--nats", url, "--namespace", "follow", "--watch")
	followed.stdout.await(t, `^BACKEND +KEY .*\n\S+ +follow/one +ready`)
	connect("two")
	followed.stdout.await(t, `follow/two +`)
	if _, stderr, code := jetway(t, "terminate", "--nats", url, "--key", "one", "--namespace", "follow"); code != ExitOK {
		t.Fatal(stderr)
	}
	followed.stdout.await(t, `follow/one +terminated .*external`)
	followed.stop()
	followed.ends(ExitInterrupted)
	if strings.Contains(followed.stdout.String(), "there") {
		t.Errorf("it shows what is of no interest:\n%s", followed.stdout)
	}
}
