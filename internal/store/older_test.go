package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/migrations"
)

// migrationsTo are the first n migrations, as of an earlier version.
func migrationsTo(t *testing.T, n int) fs.FS {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, name := range slices.Sorted(slices.Values(names))[:n] {
		data, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// The demand: under a store that runs, a database is replaced by one of an earlier version. A statement is Unavailable, with
// a reason; a look says which version it is, and after a migration all goes on. An empty database is nobody's to migrate.
// Found by restoring a backup of before a migration: Internal, until somebody restarted a worker.
func TestDatabaseOfAnEarlierVersionIsSaidAndMigrated(t *testing.T) {
	t.Parallel()
	oldDSN := pgtest.Empty(t)
	old := open(t, oldDSN)
	if err := old.MigrateWith(t.Context(), migrationsTo(t, 9)); err != nil {
		t.Fatal(err)
	}
	raw(t, oldDSN).exec(`insert into setting (lease_ttl_ms) values (20000)`)
	dump := filepath.Join(t.TempDir(), "dump")
	pgtest.Program(t, oldDSN, "pg_dump", "-Fc", "-f", dump)

	d := newRunningDB(t)
	d.drone("dr-a")
	d.exec(`drop schema public cascade`)
	d.exec(`create schema public`)
	wantUnavailable := func(what string) {
		t.Helper()
		_, err := d.Routes(t.Context(), []string{"x"})
		var refused *messages.Error
		if !errors.As(err, &refused) || refused.Kind != messages.Unavailable || refused.Reason != messages.UnavailableMigrating || strings.Contains(refused.Message, "SQLSTATE") {
			t.Errorf("%s: a statement gives %v", what, err)
		}
	}
	wantUnavailable("empty")
	if _, err := d.Look(t.Context()); !errors.Is(err, store.ErrNotMigrated) {
		t.Errorf("a look at an empty database gives %v", err)
	}
	pgtest.Program(t, d.dsn, "pg_restore", "--single-transaction", dump)
	_, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 1, Ready: true})
	if messages.KindOf(err) != messages.Unavailable {
		t.Errorf("a heartbeat gives %v", err)
	}
	for what, err := range map[string]error{"look": func() error { _, err := d.Look(t.Context()); return err }(), "schema": d.Schema(t.Context())} {
		if older, ok := errors.AsType[*store.OlderDatabaseError](err); !ok || older.Database != 9 {
			t.Errorf("%s gives %v", what, err)
		}
	}
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Schema(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.drone("dr-a")
	if _, err := d.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.exec(`update jetway_schema_version set version = 999`)
	if newer, ok := errors.AsType[*store.NewerDatabaseError](d.Schema(t.Context())); !ok || newer.Database != 999 {
		t.Errorf("of a newer one: %v", newer)
	}
}

// I1: how much is left of the wait in a copy is what a worker waits, whoever began first, and every worker says that it is over.
func TestI1HowMuchIsLeftOfTheWaitIsWhatWorkersWait(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	belief := func() store.Belief {
		t.Helper()
		b, err := d.Believed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := belief(); !b.Believed {
		t.Fatalf("at first %+v", b)
	}
	if err := d.Distrust(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := belief(); b.Believed || b.Found || b.Left != time.Minute {
		t.Errorf("before a worker has found it: %+v", b)
	}
	d.lookAtTheClock() // writes it anew
	d.lookAtTheClock() // begins to wait
	first := belief()
	if first.Believed || !first.Found || first.Left > time.Minute || first.Left < time.Second {
		t.Errorf("once one has found it: %+v", first)
	}
	d.exec(`update setting set settles_at = settles_at - interval '40 s'`) // time goes by
	var said bytes.Buffer
	other, err := store.Open(t.Context(), store.Config{DSN: d.dsn, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	if _, err := other.Look(t.Context()); err != nil { // as after the only worker was started anew
		t.Fatal(err)
	}
	if b := belief(); b.Left <= 20*time.Second {
		t.Errorf("a worker that begins to wait now is said to wait for %s", b.Left)
	}
	d.HomeWaited()
	d.lookAtTheClock()
	if b := belief(); !b.Believed {
		t.Errorf("at last %+v", b)
	}
	if _, err := other.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "the database is settled"); n != 1 {
		t.Errorf("a worker that did not settle it says %d times that it is settled: %s", n, &said)
	}
	if here, there := d.Database(), other.Database(); here == "" || here != there {
		t.Errorf("one database is called %q and %q", here, there)
	}
}
