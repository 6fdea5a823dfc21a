package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
)

// setLeaseTTLSQL changes it. That is safe at any moment: each renewal tells its drone the
// deadlines of the very time to live that it wrote, and moves no lease's end back; and who waits until no lease of before
// lives goes by the longest.
const setLeaseTTLSQL = `
update setting set longest_ttl_ms = greatest(longest_ttl_ms, lease_ttl_ms), lease_ttl_ms = $1`

// rememberLongestSQL is for a database that was restored or failed over, which may not know how long leases live of before.
const rememberLongestSQL = `
update setting set longest_ttl_ms = greatest(longest_ttl_ms, $1)`

// forgetLongestSQL is when no lease can live any more that was given before the time to live was lowered from $1 to $2.
const forgetLongestSQL = `
update setting set longest_ttl_ms = 0
where longest_ttl_ms = $1 and lease_ttl_ms = $2`

var shortenSQL = statement("shorten")

const lookSQL = `
select now(), t.lease_ttl_ms, t.longest_ttl_ms, coalesce((select h.id from home h), ''),
       exists (select from here), exists (select from settled),
       (pg_current_wal_flush_lsn() - '0/0')::int8, (select v.version from jetway_schema_version v)
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
	case lacks(err), errors.Is(err, pgx.ErrNoRows):
		err = fmt.Errorf("%w: %w", ErrNotMigrated, err)
	case c == codeNoDatabase, strings.HasPrefix(c, classNotLetIn):
		err = fmt.Errorf("%w: %w", ErrNotLetIn, err)
	}
	return wrap("read the settings", err)
}

// Look reads the settings, the database's clock and where it is, which workers do every second. It gives by
// how much that clock has jumped since the last looks, or 0: after a jump nothing is taken over
// or called lost for as long as a lease lives (I1). In a database that was restored or failed over it settles down; one that
// was restored from before a migration is refused with *[OlderDatabaseError].
func (s *Store) Look(ctx context.Context) (jump time.Duration, err error) {
	jump, err = s.look(ctx)
	s.home.looked(err)
	return jump, err
}

func (s *Store) look(ctx context.Context) (jump time.Duration, err error) {
	var now time.Time
	var ttl, longest int64
	var where seen
	var version int32
	before := s.clock.now()
	if err := s.pool.QueryRow(ctx, lookSQL).Scan(&now, &ttl, &longest, &where.id, &where.here, &where.settled, &where.flushed, &version); err != nil {
		if !lacks(err) {
			return 0, refusedOf(err)
		}
		return 0, cmp.Or(s.Schema(ctx), refusedOf(err))
	}
	if known := knownVersion(); version < known {
		return 0, &OlderDatabaseError{Database: version, Binary: known}
	}
	after := s.clock.now()
	terms := lease.Terms{TTL: time.Duration(ttl) * time.Millisecond}
	live := max(terms.TTL, time.Duration(longest)*time.Millisecond)
	// In what was restored may be set no more by what leases were given before. Who was there writes it, for those who were
	// not; who has just started takes the default for it.
	if known := s.clock.lives(); known > live && (!where.settled || s.home.elsewhere(where)) {
		live, longest = known, known.Milliseconds()
		if _, err := s.pool.Exec(ctx, rememberLongestSQL, longest); err != nil {
			return 0, wrap("note how long leases of before live", err)
		}
	}
	if err := s.lookHome(ctx, where, after, live); err != nil {
		return 0, wrap("settle down in the database", err)
	}
	s.terms.Store(&terms)
	s.clock.set(terms.TTL, live)
	if err := s.firstLook(ctx, live); err != nil {
		return 0, wrap("look for leases that have expired", err)
	}
	if s.lowered.over(ttl, longest, after, live) {
		if _, err := s.pool.Exec(ctx, forgetLongestSQL, longest, ttl); err != nil {
			return 0, wrap("note that no longer leases live", err)
		}
	}
	jump = s.clock.take(before, after, now)
	if jump < 0 {
		err = s.shorten(ctx, live)
	}
	return jump, wrap("have leases end when they do by the clock that stepped back", err)
}

// lowered is what a worker has seen of a time to live that was lowered.
type lowered struct {
	from, to int64
	since    time.Duration // since boot
}

// over says whether it has seen the same for longer than the leases of before live, and than others may go by the time
// before, which they look at every second.
func (l *lowered) over(to, from int64, now, live time.Duration) bool {
	if from <= to { // it is not lowered; when it is again, that is another time
		*l = lowered{}
		return false
	}
	if l.from != from || l.to != to {
		*l = lowered{from, to, now}
	}
	return now-l.since > live+live/6
}

// shorten has no lease end, nor anything be due, as late as the clock says that stepped back.
func (s *Store) shorten(ctx context.Context, live time.Duration) error {
	return again(ctx, func() error {
		_, err := s.pool.Exec(ctx, shortenSQL, live.Seconds(), (live / 12).Seconds())
		return err
	})
}

// firstLook sees to it that a worker that has just started calls nothing lost which has expired
// before: perhaps the clock jumped, or the database is a restored one, which knows no
// renewals since. Drones that are there renew within the time for which it waits (I1). Nor does it believe that a lease lives for
// longer than any can.
func (s *Store) firstLook(ctx context.Context, live time.Duration) error {
	if s.clock.looked() {
		return nil
	}
	if err := s.shorten(ctx, live); err != nil {
		return err
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

// LeaseTTL is how long leases live, as it is set in the database.
func (s *Store) LeaseTTL(ctx context.Context) (time.Duration, error) {
	var ms int64
	err := s.pool.QueryRow(ctx, "select lease_ttl_ms from setting").Scan(&ms)
	return time.Duration(ms) * time.Millisecond, refusedOf(err)
}
