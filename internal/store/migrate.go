package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/jetway-project/jetway/migrations"
)

const (
	versionTable = "jetway_schema_version"
	// turn is the number of tern's advisory lock.
	turn = int64(9628173550095224)
	// lockWait is how long a migration may wait for a table, for as long do all who come after it
	// wait for the migration. Then it lets them pass and tries again.
	lockWait = time.Second
	// waitsEvery is how often it is looked what a migration waits for, or whether it is its turn.
	waitsEvery = lockWait / 3
	// outside marks a migration that runs outside of a transaction.
	outside = "---- tern: disable-tx ----"
)

// NewerDatabaseError says that a newer Jetway has been at the database.
type NewerDatabaseError struct{ Database, Binary int32 }

// Error says what to do.
func (e *NewerDatabaseError) Error() string {
	return fmt.Sprintf("the database is at version %d, this jetway knows %d: run the newer jetway that migrated it", e.Database, e.Binary)
}

// OlderDatabaseError says that the database is at an earlier version than this binary makes it, as one is that was restored from a
// backup of before a migration.
type OlderDatabaseError struct{ Database, Binary int32 }

// Error says what it is.
func (e *OlderDatabaseError) Error() string {
	return fmt.Sprintf("the database is at version %d, and this jetway needs %d, as after a restore of an earlier backup", e.Database, e.Binary)
}

// knownVersion is that to which this binary brings a database.
var knownVersion = sync.OnceValue(func() int32 {
	names, _ := migrate.FindMigrations(migrations.FS)
	return int32(len(names))
})

// Schema gives an error if the database's tables are of another version than this binary's: *[OlderDatabaseError],
// *[NewerDatabaseError], or [ErrNotMigrated] where there are none.
func (s *Store) Schema(ctx context.Context) error {
	var version int32
	err := s.pool.QueryRow(ctx, "select version from "+versionTable).Scan(&version)
	switch known := knownVersion(); {
	case err != nil:
		return refusedOf(err)
	case version == 0:
		return ErrNotMigrated
	case version < known:
		return &OlderDatabaseError{Database: version, Binary: known}
	case version > known:
		return &NewerDatabaseError{Database: version, Binary: known}
	}
	return nil
}

// Migrate brings the database to this binary's version. It takes as long as it takes: ctx should
// have no deadline. Workers that start together take turns; those that run go on, for a migration
// waits for a lock no longer than a moment at a time. The log says what it waits for, and how far an index
// is that it builds. A newer database
// is refused with *NewerDatabaseError, a pooler that shares sessions with [ErrPooled].
func (s *Store) Migrate(ctx context.Context) error {
	err := s.migrate(ctx, migrations.FS)
	if gone := s.link.gone(); err != nil && errors.Is(gone, ErrPooled) {
		err = gone // it was found out there first
	}
	if err != nil {
		switch {
		case code(err) == codeTableExists:
			return fmt.Errorf("migrate the database: it has tables of a later version beside those of an earlier one, as where a backup of before an upgrade was restored over it: "+
				"empty the schema, and restore the backup into it: %w", err)
		case lacks(err): // a migration is wrong, which no other attempt mends
			return fmt.Errorf("migrate the database: %w", err)
		}
		return wrap("migrate the database", err)
	}
	return s.begin(ctx)
}

// begin makes the settings of a new database, and looks at it for the first time.
func (s *Store) begin(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, firstSettingSQL, s.Terms().TTL.Milliseconds()); err != nil {
		return wrap("set the time to live of leases", err)
	}
	_, err := s.Look(ctx)
	return err
}

func (s *Store) migrate(ctx context.Context, files fs.FS) error {
	config := s.pool.Config().ConnConfig
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer drop(conn.PgConn())
	if err := checkOwn(ctx, conn.PgConn(), &config.Config); err != nil {
		return err
	}
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" && encoding != "SQL_ASCII" {
		return fmt.Errorf("the database's encoding is %s, which does not hold all names: make one with UTF8 (create database ... encoding 'UTF8' template template0)", encoding)
	}
	names, err := migrate.FindMigrations(files)
	if err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	current := func() (bool, error) { return isCurrent(ctx, conn, int32(len(names))) }
	if done, err := current(); done || err != nil {
		return err
	}
	if err := s.takeTurn(ctx, conn); err != nil {
		return err
	}
	if done, err := current(); done || err != nil {
		return err
	}
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return err
	}
	if err := m.LoadMigrations(files); err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	// Between two migrations the migrator resets what was set. What runs outside of a transaction waits,
	// as "create index concurrently" does for all transactions that are open, without anybody waiting for it.
	m.OnStart = func(_ int32, name, _, sql string) {
		wait := lockWait
		if strings.Contains(sql, outside) {
			wait = 0
		}
		s.log.Info("migrating the database", "migration", name)
		// An error makes the migration's first statement fail.
		_, _ = conn.Exec(ctx, fmt.Sprintf("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = %d", wait.Milliseconds()))
	}
	defer s.tell(ctx, conn)()
	again := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(lockWait), backoff.WithMaxInterval(10*lockWait), backoff.WithMaxElapsedTime(0))
	return backoff.RetryNotify(func() error {
		err := m.Migrate(ctx)
		if c := code(err); c == codeLockTimeout || c == codeDeadlock || c == codeSerialization {
			return err
		}
		return backoff.Permanent(err)
	}, backoff.WithContext(again, ctx), func(err error, d time.Duration) {
		s.log.Warn("a migration gives way to what holds a lock, and tries again", "in", d.Round(time.Millisecond), "err", err)
	})
}

// isCurrent says whether nothing is to be done, as a newer database is an error.
func isCurrent(ctx context.Context, conn *pgx.Conn, known int32) (bool, error) {
	var version int32
	err := conn.QueryRow(ctx, "select version from "+versionTable).Scan(&version)
	if code(err) == codeUndefinedTable || errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the schema's version: %w", err)
	}
	if version > known {
		return false, &NewerDatabaseError{Database: version, Binary: known}
	}
	return version == known, nil
}

const holderSQL = `
select pid from pg_locks
where locktype = 'advisory' and granted and objsubid = 1
  and (classid::int8 << 32) | objid::int8 = $1
  and database = (select oid from pg_database where datname = current_database())`

// takeTurn waits until no other worker migrates. It asks now and then: a session that waits in Postgres
// holds a snapshot, for which "create index concurrently" of the other one would wait.
func (s *Store) takeTurn(ctx context.Context, conn *pgx.Conn) error {
	for waits := false; ; waits = true {
		var ours bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", turn).Scan(&ours); err != nil || ours {
			return err
		}
		if !waits {
			s.log.Info("another worker migrates the database, waiting for it", "blockers", s.sessions(ctx, holderSQL, turn))
		}
		select {
		case <-time.After(waitsEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progressSQL says how far an index is that session $1 builds, in tenths of what its phase has to do.
const progressSQL = `
select format('%s on %s', p.index_relid::regclass, p.relid::regclass), p.phase,
       coalesce(10 * case when p.phase like 'waiting%' then p.lockers_done when p.phase like '%tuples%' then p.tuples_done else p.blocks_done end
           / nullif(case when p.phase like 'waiting%' then p.lockers_total when p.phase like '%tuples%' then p.tuples_total else p.blocks_total end, 0), 0)
from pg_stat_progress_create_index p
where p.pid = $1::text::int`

// tell logs what conn's statements wait for and how far an index is that they build, each time that it is
// something else, until the function that it gives is called.
func (s *Store) tell(ctx context.Context, conn *pgx.Conn) (stop func()) {
	self, err := value(ctx, conn.PgConn(), "select pg_backend_pid()")
	if err != nil {
		return func() {}
	}
	type progress struct {
		index, phase string
		tenths       int64
	}
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() {
		var waits string
		var built progress
		for {
			select {
			case <-time.After(waitsEvery):
			case <-ctx.Done():
				return
			}
			var p progress
			if err := s.pool.QueryRow(ctx, progressSQL, self).Scan(&p.index, &p.phase, &p.tenths); err == nil && p != built {
				built = p
				s.log.Info("a migration builds an index", "index", p.index, "phase", p.phase, "percent", 10*p.tenths)
			}
			blockers := s.sessions(ctx, "select unnest(pg_blocking_pids($1::text::int))", self)
			if text := strings.Join(blockers, ", "); text != waits && text != "" {
				waits = text
				s.log.Warn("a migration waits for other sessions", "blockers", blockers)
			}
		}
	})
	return func() { cancel(); telling.Wait() }
}

// sessions describes the sessions whose pids sql gives.
func (s *Store) sessions(ctx context.Context, sql string, args ...any) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, _ := read(ctx, s, pgx.RowTo[string], `
select format('process %s of %s, user %s, %s since %s: %s', pid, coalesce(nullif(application_name, ''), 'a client'), usename,
              coalesce(state, 'active'), coalesce(state_change, backend_start)::timestamptz(0), left(regexp_replace(query, '\s+', ' ', 'g'), 80))
from pg_stat_activity
where pid in (`+sql+`)
order by pid`, args...)
	return found
}
