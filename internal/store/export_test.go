package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What the tests of plans explain.
var (
	SweepSQL      = sweepSQL
	ConnectSQL    = connectSQL
	ExpireSQL     = expireSQL
	LeftBehindSQL = leftBehindSQL
	SealedSQL     = sealedSQL
	PlaceableSQL  = placeableSQL
	PlaceSQL      = placeSQL
	DronesSQL     = dronesSQL
	OrphansSQL    = orphansSQL
	HeartbeatSQL  = heartbeatSQL
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
	other := &Store{pool: pool, clock: s.clock}
	other.terms.Store(s.terms.Load())
	return other
}

// RetainSQL are the statements of retention by the index that each walks along.
var RetainSQL = map[string]string{
	"token_by_expiry": oldTokensSQL,
	"backend_ended":   oldBackendsSQL,
	"lease_released":  oldLeasesSQL,
	"drone_lost":      oldDronesSQL,
	"outbox_pkey":     oldOutboxSQL,
}

// Sleep is a statement that takes its time.
func (s *Store) Sleep(ctx context.Context, d time.Duration) error {
	_, err := s.pool.Exec(ctx, "select pg_sleep($1)", d.Seconds())
	return err
}
