package testkit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a test that cannot run here says so in one line at the end of make, whether the tests pass or not, and how to get
// what it takes. Found in make test-all: its second run wiped what the first had left out. What make test leaves out or makes small, make test-long runs, in full size.
func TestWhatIsLeftOutIsSaidAtTheEndOfMake(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		testkit.LeaveOut(t, "a test of the Makefile takes make", "install it")
	}
	if _, err := os.ReadFile("../../Makefile"); err != nil { // also for go test to know what its result depends on
		t.Fatal(err)
	}
	// What plays go test notes what it leaves out as a test binary does, anew in each run, and how it was called.
	const played = `#!/bin/sh
echo "all=$JETWAY_TEST_ALL $*" >>"$CALLS"
rm -f "$JETWAY_TEST_LEFT_OUT/a"
printf 'here no Docker; install it\nlong ./a TestA\nsmall ./a TestB\nsmall ./a TestB\nsmall ./b/c TestC\n' >"$JETWAY_TEST_LEFT_OUT/a"
exit $CODE
`
	for target, run := range map[string]struct {
		code string
		full bool
		said map[string]int
	}{
		"test":      {"3", false, map[string]int{"left out here: no Docker; install it\n": 1, "1 long tests are left to make test-long, and 2 are larger there\n": 1}},
		"test-all":  {"0", true, map[string]int{"left out here: no Docker; install it\n": 3}},
		"test-long": {"0", true, map[string]int{"running the tests\n": 1, "running the tests in full size\n": 1}}, // it runs make test where that has not run
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program, calls := filepath.Join(dir, "play"), filepath.Join(dir, "calls")
			if err := os.WriteFile(program, []byte(played), 0o755); err != nil {
				t.Fatal(err)
			}
			makes := exec.Command("make", "-C", "../..", target, "GOTEST="+program, "COMPILE_TESTS=:", "INSTALL=:", "CURDIR="+dir)
			makes.Env = append(os.Environ(), "CALLS="+calls, "CODE="+run.code, "MAKEFLAGS=")
			said, err := makes.CombinedOutput()
			if (err == nil) != (run.code == "0") {
				t.Errorf("where tests end with %s, make ends with %v", run.code, err)
			}
			for line, wanted := range run.said {
				if n := strings.Count(string(said), line); n != wanted {
					t.Errorf("%q is said %d times:\n%s", line, n, said)
				}
			}
			text, _ := os.ReadFile(calls)
			full := regexp.MustCompile(`(?m)^all=1 .* -run \^\(TestA\|TestB\|TestC\)\$ .*\./a \./b/c$`).FindAllString(string(text), -1)
			if (len(full) == 1) != run.full {
				t.Errorf("what was left out ran %d times in full size:\n%s\n%s", len(full), text, said)
			}
		})
	}
}
