// Package testkit is what all tests have in common: the one bound of all waits, sizes, what is left out, links that fail on
// demand, and what ends with a test binary. The real things that tests run against are in packages beside it, each with what it takes to be
// linked: pgtest (Postgres), natstest, dockertest, browsertest. None is imported outside tests. Nothing is skipped: what is missing is
// installed, and a test that cannot get it fails.
package testkit

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, ends what they shared, with each of ends and then what [AtEnd]
// was told, and fails when a goroutine is left behind: func TestMain(m *testing.M) { testkit.Main(m) }.
func Main(m *testing.M, ends ...func() error) {
	forgetNotes()
	exit := m.Run()
	atEnd.mu.Lock()
	ends = append(ends, atEnd.ends...)
	atEnd.mu.Unlock()
	for _, end := range ends {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, "end what the tests shared:", err)
			exit = 1
		}
	}
	if exit == 0 {
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			exit = 1
		}
	}
	os.Exit(exit)
}

// atEnd is how what tests share is ended.
var atEnd struct {
	mu   sync.Mutex
	ends []func() error
}

// AtEnd has [Main] call end when all tests have run.
func AtEnd(end func() error) {
	atEnd.mu.Lock()
	defer atEnd.mu.Unlock()
	atEnd.ends = append(atEnd.ends, end)
}

// ManyAtOnce has so many tests of this binary run at once that each waits more than it works,
// unless -parallel says how many. It is for TestMain.
func ManyAtOnce() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0)))
	}
}

// ignored are goroutines that libraries keep for the process's life.
var ignored = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
	goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
	goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
}

// Eventually waits until cond holds, and fails the test when it does not within
// [Patience]. It looks often at first, and the longer it has waited the more seldom: to look
// costs what is looked at, too. It is for conditions of another process or server, which cannot
// signal.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	began := time.Now()
	for !cond() {
		select {
		case <-time.After(min(max(time.Since(began)/20, 2*time.Millisecond), 200*time.Millisecond)):
		case <-deadline.C:
			if !cond() {
				t.Fatalf("not within %s: %s", Patience, what)
			}
			return
		}
	}
}

// Logger writes to the test's log, and to nowhere once the test has ended.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	t     testing.TB
	mu    sync.Mutex
	ended bool
}

func (w *testWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		return w.t.Output().Write(line)
	}
	return len(line), nil
}
