package testkit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a test that cannot run here says so in one line at the end of make, whether the tests pass or not, and how to get
// what it takes. Found in make test-all: its second run, of the tests of memory, wiped what the first had left out.
func TestWhatIsLeftOutIsSaidAtTheEndOfMake(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		testkit.LeaveOut(t, "a test of the Makefile takes make", "install it")
	}
	if _, err := os.ReadFile("../../Makefile"); err != nil { // also for go test to know what its result depends on
		t.Fatal(err)
	}
	for code, target := range map[string]string{"0": "test-all", "3": "test"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// What plays go test notes what it leaves out as a test binary does: anew in each run.
			played := filepath.Join(dir, "play")
			script := `#!/bin/sh
rm -f "$JETWAY_TEST_LEFT_OUT/a"
case "$*" in
*"-run Memory"*) ;;
*) printf 'here no Docker; install it\nlong TestA\n' >"$JETWAY_TEST_LEFT_OUT/a" ;;
esac
exit ` + code + "\n"
			if err := os.WriteFile(played, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command("make", "-C", "../..", target, "GOTEST="+played, "COMPILE_TESTS=:", "INSTALL=:", "CURDIR="+dir).CombinedOutput()
			if (err == nil) != (code == "0") {
				t.Errorf("where tests end with %s, make ends with %v", code, err)
			}
			for _, line := range []string{"left out here: no Docker; install it\n", "1 long tests are left to make test-all\n"} {
				if n := strings.Count(string(said), line); n != 1 {
					t.Errorf("%q is said %d times:\n%s", line, n, said)
				}
			}
		})
	}
}
