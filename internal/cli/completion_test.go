package cli

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a shell completes commands, flags, and names of what there is; and where no server answers it says nothing.
func TestCompletion(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	url := sharedStack(t).NATSURL
	complete := func(url, line string) []string {
		t.Helper()
		// As bash calls it, with the command, the word and the one before.
		cmd := exec.CommandContext(t.Context(), self, "jetway", "", "")
		cmd.Env, cmd.Stderr = append(os.Environ(), "COMP_LINE="+line, "NATS_URL="+url), t.Output()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return strings.Fields(string(out))
	}
	for line, word := range map[string]string{
		"jetway back":                    "backends",
		"jetway drain --end":             "--end-after",
		"jetway top --sort me":           "memory",
		"jetway backends --status":       "--status",
		"jetway backends --status hard-": "hard-terminating",
		"jetway drain ":                  "dr-dev",
		"jetway backends --drone ":       "dr-dev",
	} {
		// A shell does not wait for long, so a busy machine's may get nothing.
		testkit.Eventually(t, line+" is completed by "+word, func() bool { return slices.Contains(complete(url, line), word) })
	}
	if words := complete("nats://127.0.0.1:1", "jetway drain "); strings.Contains(strings.Join(words, " "), "dr-") {
		t.Errorf("without a server a drone is completed by %q", words)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		stdout, stderr, code := jetway(t, "completion", "-c", shell)
		if code != ExitOK || stderr != "" || !strings.Contains(stdout, "jetway") {
			t.Errorf("completion for %s: %d %q %q", shell, code, stdout, stderr)
		}
	}
}
