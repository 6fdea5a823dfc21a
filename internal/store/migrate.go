package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/jetway-project/jetway/migrations"
)

const versionTable = "jetway_schema_version"

// NewerDatabaseError says that a newer Jetway has been at the database.
type NewerDatabaseError struct{ Database, Binary int32 }

// Error says what to do.
func (e *NewerDatabaseError) Error() string {
	return fmt.Sprintf("the database is at version %d, this jetway knows %d: run the newer jetway that migrated it", e.Database, e.Binary)
}

// Migrate brings the database to this binary's version. Workers that start
// together take turns under an advisory lock. A newer database is refused with
// *NewerDatabaseError.
func (s *Store) Migrate(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return wrap("migrate the database", err)
	}
	defer conn.Release()
	// Migrations may take longer than any other statement.
	if _, err := conn.Exec(ctx, "set statement_timeout = 0; set lock_timeout = 0"); err != nil {
		return wrap("migrate the database", err)
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "reset statement_timeout; reset lock_timeout")
	}()
	if err := migrateConn(ctx, conn.Conn()); err != nil {
		return wrap("migrate the database", err)
	}
	if _, err := conn.Exec(ctx, firstSettingSQL, s.Terms().TTL.Milliseconds()); err != nil {
		return wrap("set the time to live of leases", err)
	}
	_, err = s.Look(ctx)
	return err
}

func migrateConn(ctx context.Context, conn *pgx.Conn) error {
	// The migrator takes an advisory lock of its own for each step.
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return err
	}
	if err := m.LoadMigrations(migrations.FS); err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	known := int32(len(m.Migrations))
	version, err := m.GetCurrentVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if version > known {
		return &NewerDatabaseError{Database: version, Binary: known}
	}
	return m.Migrate(ctx)
}
