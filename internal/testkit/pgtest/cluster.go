// Package pgtest gives tests a real Postgres: databases with Jetway's tables of a cluster that the tests of a binary share, and
// clusters of their own, to stop, kill, restart and follow. It is installed where it is missing.
package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/testkit"
)

// shared is the one cluster of a test binary, started by the first test that asks.
var shared struct {
	once    sync.Once
	cluster *postgres.Cluster
	dir     string
	err     error
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
			testkit.AtEnd(func() error {
				if shared.cluster != nil {
					_ = shared.cluster.Stop(context.Background())
				}
				return os.RemoveAll(shared.dir)
			})
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
	ctx, cancel := context.WithTimeout(context.Background(), max(testkit.Patience, 5*time.Minute)) // it may have to be installed
	defer cancel()
	binaries, err := postgres.Ensure(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	cfg := postgres.Config{Dir: dir, Binaries: binaries, Ephemeral: true, TCP: true}
	if cfg.From, err = originalOf(ctx, binaries); err != nil {
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
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
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
