package testkit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Variables of the environment that say how the tests are run; the Makefile sets them.
const (
	// everythingEnv is "1" where make test-all runs: every test, in its full size.
	everythingEnv = "JETWAY_TEST_ALL"
	// completeEnv is "1" where a test that cannot run here fails, as on CI.
	completeEnv = "JETWAY_TEST_COMPLETE"
	// patienceEnv multiplies [Patience], for a machine that is slower than any.
	patienceEnv = "JETWAY_TEST_PATIENCE"
	// leftOutEnv names a directory: each test binary writes there what it left out.
	leftOutEnv = "JETWAY_TEST_LEFT_OUT"
	// inOwnNetwork tells a test that it has a network of its own.
	inOwnNetwork = "JETWAY_TEST_OWN_NETWORK"
)

// Everything says that every test runs in its full size (make test-all), and not only
// in the smallest form that shows what it guards (make test).
var Everything = os.Getenv(everythingEnv) == "1"

// Patience is the one bound of all waits in tests. It is so long that only a hang
// meets it: no test judges by how soon something comes. JETWAY_TEST_PATIENCE, a
// factor, makes it longer.
var Patience = patience(os.Getenv(patienceEnv))

func patience(factor string) time.Duration {
	const ordinary = 3 * time.Minute
	if f, err := strconv.ParseFloat(factor, 64); err == nil && f > 0 {
		return time.Duration(f * float64(ordinary))
	}
	return ordinary
}

// Sized gives small, or with make test-all full: how many of something a test uses.
func Sized[N any](small, full N) N {
	if Everything {
		return full
	}
	return small
}

// Context gives a context of the test's that ends after [Patience].
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Receive waits for what comes out of a channel, and fails the test when nothing does.
// A channel that is closed gives the zero value.
func Receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	select {
	case v := <-from:
		return v
	case <-limit.C:
		t.Fatalf("not within %s: %s", Patience, what)
		panic("unreachable")
	}
}

// Long leaves a test to make test-all, because it is long by nature. What it guards has
// a small form among the other tests.
func Long(t testing.TB) {
	t.Helper()
	if !Everything {
		note("long", t.Name())
		t.Skip("long: make test-all runs it")
	}
}

// LeaveOut leaves a test out on a machine that cannot run it: why, and how to get what
// it takes. make says it once more at the end. On CI the test fails instead.
func LeaveOut(t testing.TB, why, how string) {
	t.Helper()
	if os.Getenv(completeEnv) == "1" {
		t.Fatalf("%s; %s", why, how)
	}
	note("here", why+"; "+how)
	t.Skipf("%s; %s", why, how)
}

// note writes a line into this binary's file of what was left out. go test does not see
// it, for otherwise the file would be among what a cached result depends on.
func note(kind, line string) {
	path := notes()
	if path == "" {
		return
	}
	if file, err := unix.Open(path, unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
		_, _ = unix.Write(file, []byte(kind+" "+strings.ReplaceAll(line, "\n", " ")+"\n"))
		_ = unix.Close(file)
	}
}

// forgetNotes begins this binary's file anew, but not where it runs one test once more.
func forgetNotes() {
	if path := notes(); path != "" && os.Getenv(inOwnNetwork) == "" {
		_ = unix.Unlink(path)
	}
}

func notes() string {
	dir := os.Getenv(leftOutEnv)
	if dir == "" {
		return ""
	}
	here, err := os.Getwd()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, fmt.Sprintf("%s-%s", filepath.Base(filepath.Dir(here)), filepath.Base(here)))
}

// OwnsNetwork says whether this process is one of [OwnNetwork]'s, which runs one test alone.
func OwnsNetwork() bool { return os.Getenv(inOwnNetwork) != "" }
