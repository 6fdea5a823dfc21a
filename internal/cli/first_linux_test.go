package cli

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// beFirst names a script that this program is to run as the first process of a container.
const beFirst = "JETWAY_TEST_FIRST"

func init() {
	if script := os.Getenv(beFirst); script != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := asFirst(ctx, os.Stderr, nil, "/bin/sh", "-c", script)
		stop()
		os.Exit(code)
	}
}

// I8: an agent that is the first process of its container reaps what its backends leave: fifty
// zombies a life were left before.
func TestI8FirstProcessReapsOrphans(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "tests of a first process", "run as root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
for n in 1 2 3 4 5 6 7 8 9 10; do sh -c 'sleep 0.01 & exit' & done; wait
[ $PPID = 1 ] || exit 3
while grep -l '^[0-9]* (sleep)' /proc/[0-9]*/stat 2>/dev/null; do :; done
exit 7`
	// Killed with its parent; /proc is the container's own.
	cmd := exec.CommandContext(testkit.Context(t), "unshare", "-p", "-f", "--mount-proc", "--kill-child", self)
	cmd.Env = append(os.Environ(), beFirst+"="+script)
	output, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Fatalf("%v: %s", err, output)
	}
}

// The end that is asked for is passed on, and so is how it ended.
func TestFirstProcessPassesItsEndOn(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testkit.Context(t), self)
	cmd.Env = append(os.Environ(), beFirst+"=trap 'exit 9' TERM; echo on; while :; do sleep 1000 & wait; done")
	output, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "on\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		t.Fatalf("ended with %v", cmd.ProcessState)
	}
}
