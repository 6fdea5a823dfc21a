// Package testkit gives tests the real things: a Postgres database and a NATS
// server for each test, connections to them, and links that fail on demand. It
// is not imported outside tests. Nothing is skipped: what is missing is
// installed, and a test that cannot get it fails. All that it starts ends with
// the test, or with the test binary.
package testkit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/dev/postgres"
)

// shared is the one cluster of a test binary, started by the first test that asks.
var shared struct {
	once    sync.Once
	cluster *postgres.Cluster
	dir     string
	err     error
}

// Main runs the tests of a package, ends what they shared, with each of ends and then the browser
// and the cluster, and fails when a goroutine is left behind: func TestMain(m *testing.M) { testkit.Main(m) }.
func Main(m *testing.M, ends ...func() error) {
	forgetNotes()
	exit := m.Run()
	for _, end := range append(ends, endBrowser) {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, "end what the tests shared:", err)
			exit = 1
		}
	}
	if shared.cluster != nil {
		_ = shared.cluster.Stop(context.Background())
		_ = os.RemoveAll(shared.dir)
	}
	if exit == 0 {
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			exit = 1
		}
	}
	os.Exit(exit)
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

// Cluster gives the cluster that the tests of this binary share.
func Cluster(t testing.TB) *postgres.Cluster {
	t.Helper()
	shared.once.Do(func() {
		sweep()
		if shared.dir, shared.err = os.MkdirTemp("", dirPrefix); shared.err == nil {
			shared.err = os.Chmod(shared.dir, 0o755)
		}
		if shared.err == nil {
			shared.cluster, shared.err = start(filepath.Join(shared.dir, "pg"))
		}
		if shared.err == nil {
			// What it does, and keeps from being done meanwhile, comes at no certain time.
			execute(t, shared.cluster.DSN(), "alter system set autovacuum = off", "select pg_reload_conf()")
		}
	})
	if shared.err != nil {
		t.Fatal("start Postgres for the tests: ", shared.err)
	}
	return shared.cluster
}

// OwnCluster gives a cluster for this test alone, to stop, kill and restart.
func OwnCluster(t testing.TB, change ...func(*postgres.Config)) *postgres.Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// While its Postgres is stopped it is the test's all the same.
	lock, err := os.Create(filepath.Join(dir, testLock))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := start(filepath.Join(dir, "pg"), change...)
	if err != nil {
		t.Fatal("start Postgres for the test: ", err)
	}
	t.Cleanup(func() {
		_ = c.Stop(context.Background())
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	})
	return c
}

func start(dir string, change ...func(*postgres.Config)) (*postgres.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), max(Patience, 5*time.Minute)) // it may have to be installed
	defer cancel()
	binaries, err := postgres.Ensure(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	cfg := postgres.Config{Dir: dir, Binaries: binaries, Ephemeral: true, TCP: true}
	if cfg.From, _, err = originalOf(ctx, binaries); err != nil {
		return nil, err
	}
	for _, c := range change {
		c(&cfg)
	}
	return postgres.Start(ctx, cfg)
}

// dirPrefix begins the names of the clusters' directories.
const dirPrefix = "jetway-test-"

// testLock is locked as long as the test runs whose cluster it is.
const testLock = "test.lock"

// sweep removes the clusters of test binaries that were killed, as by a timeout:
// those that are no longer locked. One that is being made is young.
func sweep() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range found {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, "pg.lock")); err != nil || locked(filepath.Join(dir, testLock)) || locked(filepath.Join(dir, "pg.lock")) {
			continue
		}
		_ = os.RemoveAll(dir)
	}
}

// locked says whether somebody holds the lock of a file.
func locked(path string) bool {
	lock, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

func execute(t testing.TB, dsn string, sql ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, s := range sql {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// NATS gives a server with JetStream for this test.
func NATS(t testing.TB) *natsd.Server {
	t.Helper()
	s, _ := startNATS(t, t.TempDir())
	t.Cleanup(s.Stop)
	return s
}

// Conn connects to a server until the test ends.
func Conn(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	// Each try is short, and there are many: where a server was, another process may listen by now that never says a word.
	opts = append([]nats.Option{nats.Timeout(Patience / 18), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, opts...)
	nc, err := nats.Connect(url, opts...)
	for began := time.Now(); errors.Is(err, nats.ErrTimeout) && time.Since(began) < Patience; {
		nc, err = nats.Connect(url, opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream gives a connection's, which waits for each answer as long as tests wait: by itself it gives up after 5 s.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(Patience))
	if err != nil {
		t.Fatal(err)
	}
	return js
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
