package testkit

import (
	"context"
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
	// everythingEnv is "1" where tests run in their full size, as in make test-long.
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

// everything says that every test runs in its full size, and not only in the smallest form that shows what it guards (make test).
var everything = os.Getenv(everythingEnv) == "1"

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

// Sized gives small, or where tests run in their full size full: how many of something a test uses, or whether it does
// something more. So make test-long knows whom to run.
func Sized[N any](t testing.TB, small, full N) N {
	t.Helper()
	if everything {
		return full
	}
	note("small", topOf(t))
	return small
}

// topOf is the name of a test, also where it is asked for in one of its parts.
func topOf(t testing.TB) string {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	return name
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

// Long leaves a test to make test-long, because it is long by nature. What it guards has
// a small form among the other tests.
func Long(t testing.TB) {
	t.Helper()
	if !everything {
		note("long", topOf(t))
		t.Skip("long: make test-long runs it")
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

// note writes a line into this binary's file of what was left out: "here", which this machine cannot run, why and how to get it;
// "long" or "small", which make test-long runs, the package's directory and the test. go test does not see
// it, for otherwise the file would be among what a cached result depends on.
func note(kind, line string) {
	path, pkg := notes()
	if path == "" {
		return
	}
	if kind != "here" {
		line = pkg + " " + line
	}
	if file, err := unix.Open(path, unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
		_, _ = unix.Write(file, []byte(kind+" "+strings.ReplaceAll(line, "\n", " ")+"\n"))
		_ = unix.Close(file)
	}
}

// forgetNotes begins this binary's file anew, but not where it runs one test once more.
func forgetNotes() {
	if path, _ := notes(); path != "" && os.Getenv(inOwnNetwork) == "" {
		_ = unix.Unlink(path)
	}
}

// notes gives the file, "" where nobody asks for one, and the directory of the package, as ./internal/store.
func notes() (path, pkg string) {
	dir := os.Getenv(leftOutEnv)
	here, err := os.Getwd() // go test runs a test in its package's directory
	if dir == "" || err != nil {
		return "", ""
	}
	root, pkg := within(here)
	if root == "" {
		return "", ""
	}
	return filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-")), pkg
}

// within gives the root of the module that a directory is in, "" where it is in none, and the directory in it.
func within(dir string) (root, pkg string) {
	pkg = "."
	for root = dir; unix.Access(filepath.Join(root, "go.mod"), unix.R_OK) != nil; root = filepath.Dir(root) {
		if root == filepath.Dir(root) {
			return "", ""
		}
		pkg = "./" + filepath.Join(filepath.Base(root), pkg)
	}
	return root, pkg
}

// OwnsNetwork says whether this process is one of [OwnNetwork]'s, which runs one test alone.
func OwnsNetwork() bool { return os.Getenv(inOwnNetwork) != "" }
