package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/migrations"
)

// said is a log to look into.
type said struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (s *said) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.Write(line)
}

func (s *said) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.lines.String(), what)
}

// with gives all migrations and more.
func with(t *testing.T, more ...string) fs.FS {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	files := upTo(t, len(names))
	for i, sql := range more {
		files[fmt.Sprintf("%03d_test.sql", len(names)+1+i)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return files
}

// migrator is a store that migrates, with what it logs.
func migrator(t *testing.T, dsn string) (*store.Store, *said) {
	t.Helper()
	log := new(said)
	s, err := store.Open(t.Context(), store.Config{DSN: dsn, MaxConns: 2, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, log
}

// reader is a long read, as pg_dump is one: it holds a snapshot and locks of what it reads until it
// is ended.
func reader(t *testing.T, dsn string, tables ...string) (end func()) {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), dsn+" application_name=dump")
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	t.Cleanup(end)
	if _, err := conn.Exec(t.Context(), "begin isolation level repeatable read; select from "+strings.Join(tables, ", ")); err != nil {
		t.Fatal(err)
	}
	return end
}

// I6 and I7: a migration that wants each table for itself, behind a long read, lets everybody else
// pass: a worker of the version before answers connects and renews leases meanwhile, and after it.
func TestI6I7MigrationBehindALongReadStopsNobody(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	d.drone("dr-a")
	end := reader(t, dsn, "lease", "backend", "drone", "token", "outbox")
	s, log := migrator(t, dsn)
	var columns []string
	for _, table := range one[[]string](d, `select array_agg(format('%I', relname)) from pg_class
		where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'jetway_schema_version'`) {
		columns = append(columns, "alter table "+table+" add column test int not null default 7")
	}
	migrated := make(chan error, 1)
	go func() {
		migrated <- s.MigrateWith(t.Context(), with(t,
			append(columns, "---- tern: disable-tx ----\ncreate index concurrently test_index on drone (pool)")...))
	}()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var spawned, renewed atomic.Int64
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	// Each version of a row is one more for the next to look at, for the reader keeps them all.
	pause := func() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	for a := range 4 {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("b-%d-%d", a, i)
				got, _, err := d.Connect(t.Context(), []lease.Want{want("doc-"+id, id, "dr-a")})
				if err != nil || got[0].Result != lease.Acquired {
					t.Errorf("a connect: %v, %v", got, err)
					return
				}
				spawned.Add(1)
				pause()
			}
		})
	}
	load.Go(func() {
		for ctx.Err() == nil {
			heard, err := d.Heartbeat(t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 2000, Ready: true})
			if err != nil || !heard.Known {
				t.Errorf("a heartbeat: %v, %v", heard, err)
				return
			}
			renewed.Add(1)
			pause()
		}
	})
	for range 3 { // it has waited, given way, and not in vain
		again, connects, beats := log.count("gives way"), spawned.Load(), renewed.Load()
		testkit.Eventually(t, "the migration gives way, connects and heartbeats pass", func() bool {
			return log.count("gives way") > again && spawned.Load() > connects+20 && renewed.Load() > beats+20
		})
	}
	if log.count("of dump") == 0 || log.count("select from lease") == 0 {
		t.Errorf("the log does not say what is waited for:\n%s", &log.lines)
	}
	end()
	if err := testkit.Receive(t, migrated, "the migration"); err != nil {
		t.Error(err)
	}
	// The older worker goes on beside the one that migrated.
	connects, beats := spawned.Load(), renewed.Load()
	testkit.Eventually(t, "connects and heartbeats of the older worker pass", func() bool {
		return spawned.Load() > connects+20 && renewed.Load() > beats+20
	})
	stop()
	load.Wait()
}

// What waits for open transactions to end, and has nobody wait for it, is not asked to give way; nor
// does a worker that waits for its turn keep it waiting.
func TestConcurrentMigrationWaitsForTransactionsAndNotForItsSuccessors(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	end := reader(t, dsn, "drone")
	files := with(t, "---- tern: disable-tx ----\ncreate index concurrently test_index on drone (pool)")
	migrated := make(chan error)
	var logs []*said
	for range 3 {
		s, log := migrator(t, dsn)
		logs = append(logs, log)
		go func() { migrated <- s.MigrateWith(t.Context(), files) }()
	}
	lines := func(what string) (n int) {
		for _, log := range logs {
			n += log.count(what)
		}
		return n
	}
	testkit.Eventually(t, "one waits for the reader, two for that one", func() bool {
		return lines("waits for other sessions") == 1 && lines("of dump") == 1 && lines("another worker migrates") == 2
	})
	testkit.Eventually(t, "the index is made for longer than a migration may wait for a table", func() bool {
		return one[int](d, `select count(*) from pg_stat_activity where datname = current_database()
			and pid <> pg_backend_pid() and query like '%create index concurrently%' and now() - query_start > interval '2 seconds'`) == 1
	})
	end()
	for range 3 {
		if err := testkit.Receive(t, migrated, "a migration"); err != nil {
			t.Error(err)
		}
	}
	if n := lines("gives way"); n != 0 {
		t.Errorf("the index gave way %d times", n)
	}
}

// The second migration too runs without a bound on its statements, whatever the database is set to.
func TestMigrationsHaveNoDeadline(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	d.exec("do $$ begin execute format('alter database %I set statement_timeout = 500', current_database()); end $$")
	s, _ := migrator(t, dsn)
	if err := s.MigrateWith(t.Context(), with(t, "create table a ()", "select pg_sleep(1)", "select pg_sleep(1)")); err != nil {
		t.Fatal(err)
	}
}

// A worker whose database needs nothing starts while another one migrates: nobody's turn is waited for.
func TestMigrateOfACurrentDatabaseWaitsForNobody(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	conn, err := d.raw.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "select pg_advisory_lock(9628173550095224)"); err != nil {
		t.Fatal(err)
	}
	if err := d.Migrate(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
}

// newDBAt is newDB with a database that the test knows.
func newDBAt(t *testing.T, dsn string) *db {
	t.Helper()
	d := &db{Store: open(t, dsn), t: t, dsn: dsn}
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.raw, err = pgxpool.New(t.Context(), dsn+" pool_max_conns=3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.raw.Close)
	return d
}
