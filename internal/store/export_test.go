package store

import (
	"context"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What the tests of plans explain.
var (
	SweepSQL        = sweepSQL
	JoinSQL         = joinSQL
	SpawnSQL        = spawnSQL
	ExpireSQL       = expireSQL
	LeftBehindSQL   = leftBehindSQL
	SealedSQL       = sealedSQL
	PlaceableSQL    = placeableSQL
	PlaceSQL        = placeSQL
	DronesSQL       = dronesSQL
	LiveFilteredSQL = liveFilteredSQL
	LiveSQL         = liveSQL
	LiveOfSQL       = liveOfSQL
	CompareSQL      = compareSQL
	AdoptSQL        = adoptSQL
	HeartbeatSQL    = heartbeatSQL
	UsersSQL        = usersSQL
	KeysSQL         = keysSQL
	KeysEndSQL      = keysEndSQL
)

// SweepArgs are the arguments of SweepSQL.
func (s *Store) SweepArgs(startWithin time.Duration) []any { return s.sweepArgs(startWithin) }

// ExpireArgs are the arguments of ExpireSQL.
func (s *Store) ExpireArgs() []any { return s.expireArgs() }

// Trusted is past when nothing counts as expired.
func (s *Store) Trusted() time.Time { return s.clock.trusted() }

// WithPool is a store like s whose statements run on another pool: for tests that
// set connections up in other ways.
func WithPool(s *Store, pool *pgxpool.Pool) *Store {
	other := &Store{pool: pool, clock: s.clock, log: s.log}
	other.terms.Store(s.terms.Load())
	return other
}

// OpenUnwatched is Open without a session beside the pool that sees whether the database is there.
func OpenUnwatched(ctx context.Context, cfg Config) (*Store, error) { return prepare(ctx, cfg) }

// Begin is what is done once a database is migrated.
func (s *Store) Begin(ctx context.Context) error { return s.begin(ctx) }

// PoolOf is a store's pool.
func PoolOf(s *Store) *pgxpool.Pool { return s.pool }

// SayWhere has a session made elsewhere say where it is, as those of a store do.
func SayWhere(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := conn.Exec(ctx, clusterSQL).ReadAll()
	return err
}

// RetainSQL are the statements of retention by the index that each walks along.
var RetainSQL = map[string]string{
	"token_by_expiry": oldTokensSQL,
	"backend_ended":   oldBackendsSQL,
	"lease_over":      oldLeasesSQL,
	"drone_lost":      oldDronesSQL,
	"outbox_pkey":     oldOutboxSQL,
}

// Sleep is a statement that takes its time.
func (s *Store) Sleep(ctx context.Context, d time.Duration) error {
	_, err := s.pool.Exec(ctx, "select pg_sleep($1)", d.Seconds())
	return err
}

// MigrateWith migrates with other files.
func (s *Store) MigrateWith(ctx context.Context, files fs.FS) error { return s.migrate(ctx, files) }

// Setting is how a session of the pool is set.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "select current_setting($1)", name).Scan(&value)
	return value, err
}

// MakeReadOnly has all sessions of the pool, as many as there are, write no more, as a server does that
// is demoted under them.
func (s *Store) MakeReadOnly(ctx context.Context) error {
	var all []*pgxpool.Conn
	for range s.pool.Config().MaxConns {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		all = append(all, conn)
	}
	for _, conn := range all {
		if _, err := conn.Exec(ctx, "set default_transaction_read_only = on"); err != nil {
			return err
		}
	}
	return nil
}

// Reconnect has a store's sessions be new ones.
func Reconnect(ctx context.Context, s *Store) error {
	s.pool.Reset()
	return s.Ping(ctx)
}
