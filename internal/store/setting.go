package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
)

// setLeaseTTLSQL changes it. That is safe at any moment: each renewal tells its drone the
// deadlines of the very time to live that it wrote, and moves no lease's end back.
const setLeaseTTLSQL = `update setting set lease_ttl_ms = $1`

const lookSQL = `
select now(), t.lease_ttl_ms, coalesce((select h.id from home h), ''),
       exists (select from here), exists (select from settled),
       (pg_current_wal_flush_lsn() - '0/0')::int8
from setting t`

// overdueSQL says whether a lease has expired and nobody has seen to it, which workers that
// were there would have done at once.
const overdueSQL = `
select exists (
    select from session s
    where s.sealed_at is null and s.due_at <= now() and s.due_at > '-infinity' and s.expires_at <= now()
)`

// What may be wrong with a database that answers.
var (
	// ErrNotMigrated says that no worker has made the tables yet.
	ErrNotMigrated = errors.New("the database has no tables of this version of Jetway yet")
	// ErrNotLetIn says that it does not let this user in, or is not there.
	ErrNotLetIn = errors.New("there is no such database, or it does not let us in")
)

// refusedOf says what is wrong with a database that answered to whoever looks what it is.
func refusedOf(err error) error {
	switch c := code(err); {
	case c == codeUndefinedTable, errors.Is(err, pgx.ErrNoRows):
		err = fmt.Errorf("%w: %w", ErrNotMigrated, err)
	case c == codeNoDatabase, strings.HasPrefix(c, classNotLetIn):
		err = fmt.Errorf("%w: %w", ErrNotLetIn, err)
	}
	return wrap("read the settings", err)
}

// Look reads the settings, the database's clock and where it is, which workers do every second. It gives by
// how much that clock has jumped since the last looks, or 0: after a jump nothing is taken over
// or called lost for as long as a lease lives (I1). In a database that was restored or failed over it settles down.
func (s *Store) Look(ctx context.Context) (jump time.Duration, err error) {
	var now time.Time
	var ttl int64
	var where seen
	before := s.clock.now()
	if err := s.pool.QueryRow(ctx, lookSQL).Scan(&now, &ttl, &where.id, &where.here, &where.settled, &where.flushed); err != nil {
		return 0, refusedOf(err)
	}
	after := s.clock.now()
	terms := lease.Terms{TTL: time.Duration(ttl) * time.Millisecond}
	// Leases may have been given by what was set before, or is set no more in what was restored.
	if err := s.lookHome(ctx, where, after, max(terms.TTL, s.Terms().TTL, s.first.TTL)); err != nil {
		return 0, wrap("settle down in the database", err)
	}
	s.terms.Store(&terms)
	s.clock.set(terms.TTL)
	if err := s.firstLook(ctx); err != nil {
		return 0, wrap("look for leases that have expired", err)
	}
	return s.clock.take(before, after, now), nil
}

// firstLook sees to it that a worker that has just started calls nothing lost which has expired
// before: perhaps the clock jumped, or the database is a restored one, which knows no
// renewals since. Drones that are there renew within the time for which it waits (I1).
func (s *Store) firstLook(ctx context.Context) error {
	if s.clock.looked() {
		return nil
	}
	var overdue bool
	if err := s.pool.QueryRow(ctx, overdueSQL).Scan(&overdue); err != nil {
		return err
	}
	if overdue {
		s.clock.distrust()
	}
	return nil
}

// SetLeaseTTL changes how long leases live, for all workers. They take it within seconds.
func (s *Store) SetLeaseTTL(ctx context.Context, terms lease.Terms) error {
	if err := terms.Validate(); err != nil {
		return err
	}
	_, err := s.pool.Exec(ctx, setLeaseTTLSQL, terms.TTL.Milliseconds())
	return wrap("set the time to live of leases", err)
}
