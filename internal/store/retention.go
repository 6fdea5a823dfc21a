package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// retainBatch is the most rows of a table that one statement deletes.
	retainBatch = 500
	// leasesFor is the least time that released leases are kept: much longer than a statement
	// that has drawn its fencing token may wait (I2; design, section 4).
	leasesFor = 24 * time.Hour
	// outboxFor is the least time for which it is tried to publish what tells of something
	// that has ended. The stream of events keeps a day.
	outboxFor = 7 * 24 * time.Hour
)

// The deletes walk along an index from the oldest row on, for at most $1 rows, skipping what
// others have locked, and delete what they have locked by its place. A row that was
// changed while it was being locked is at another place than the statement can see; the next one finds it.

const oldTokensSQL = `
delete from token where ctid = any(array(
    select t.ctid
    from token t
    where t.expires_at <= now()
    order by t.expires_at
    limit $1
    for update skip locked
))`

// oldBackendsSQL deletes backends that ended $2 seconds ago, and first their tokens. While there are
// tokens, or something is still to be published, a backend stays: its id may be
// used again once it is gone, and neither may then be taken for the new one's.
const oldBackendsSQL = `
with old as materialized (
    select b.id, b.ctid as place
    from backend b
    where b.ended_at <= now() - make_interval(secs => $2)
      and not exists (select from outbox o where o.backend_id = b.id offset 0)
    order by b.ended_at
    limit $1
    for update skip locked
),
tokens as (
    delete from token where ctid = any(array(
        select t.place
        from old o
        cross join lateral (
            select t.ctid as place from token t where t.backend_id = o.id limit $1 for update skip locked
        ) t
        limit $1
    ))
    returning 1
),
connections as (
    delete from connection c where c.backend_id = any(array(select o.id from old o))
),
gone as (
    delete from backend where ctid = any(array(
        select o.place from old o where not exists (select from token t where t.backend_id = o.id offset 0)
    ))
    returning 1
)
select (select count(*) from old), (select count(*) from tokens), (select count(*) from gone)`

// followClockSQL has the sequence of fencing tokens follow the clock, a minute behind it at most: no
// statement can have drawn so many numbers at once that it would step back.
const followClockSQL = `
select setval('fencing_token', (extract(epoch from now()) * 1000)::int8)
from fencing_token s
where s.last_value < (extract(epoch from now() - interval '1 minute') * 1000)::int8`

// oldLeasesSQL deletes leases that were released $2 seconds ago, and have not been dormant since, with what was kept of them. The next fencing token of such a key is
// the sequence's, so the row stays until the sequence has reached its own (I2).
const oldLeasesSQL = `
with gone as (
    delete from lease where ctid = any(array(
        select l.ctid
        from lease l
        where l.released_at is not null and greatest(l.released_at, l.dormant_until) <= now() - make_interval(secs => $2)
          and l.fencing_token <= (select s.last_value from fencing_token s)
        order by greatest(l.released_at, l.dormant_until)
        limit $1
        for update skip locked
    ))
    returning namespace, name
),
kept as (
    delete from dormant where ctid = any(array(
        select d.place
        from gone g
        cross join lateral (select d.ctid as place from dormant d where d.namespace = g.namespace and d.name = g.name offset 0) d
    ))
)
select count(*) from gone`

// oldDronesSQL deletes drones that have been lost for $2 seconds and left nothing behind that has not ended.
const oldDronesSQL = `
delete from drone where ctid = any(array(
    select d.ctid
    from drone d
    where d.lost_at <= now() - make_interval(secs => $2)
      and not exists (select from backend b where b.drone = d.name and b.ended_at is null offset 0)
    order by d.lost_at
    limit $1
    for update skip locked
))
returning name`

// oldOutboxSQL deletes what has been on record for $2 seconds and is not about a backend
// that lives: nothing has been able to take it. Rows are numbered as they come, so the oldest are the first.
const oldOutboxSQL = `
delete from outbox where id = any(array(
    select f.id
    from (select o.id, o.backend_id, o.created_at from outbox o order by o.id limit $1) f
    where f.created_at <= now() - make_interval(secs => $2)
      and not exists (select from backend b where b.id = f.backend_id and b.status < 70 offset 0)
))`

// Deleted is what one round of retention has deleted.
type Deleted struct {
	Tokens, Backends, Leases, Outbox int64
	// Drones are forgotten; their consumers are to be deleted too.
	Drones []string
	// Full says that there may be more to delete at once.
	Full bool
}

// Any says whether anything was deleted.
func (d *Deleted) Any() bool {
	return d.Tokens+d.Backends+d.Leases+d.Outbox > 0 || len(d.Drones) > 0
}

// Retain deletes one small batch of each thing that is past its time, each by a statement and a
// transaction of its own (I8). It keeps what has ended, and lost drones, for as
// long as retain, released leases for a day at least, and what cannot be
// published for a week at least. Any number of workers may do it at once. What was deleted is given
// also when some of it failed.
func (s *Store) Retain(ctx context.Context, retain time.Duration) (d Deleted, err error) {
	var errs []error
	do := func(what string, run func() error) {
		errs = append(errs, wrap(what, again(ctx, run)))
	}
	do("delete expired tokens", func() (err error) {
		d.Tokens, err = s.deleteOld(ctx, &d.Full, oldTokensSQL)
		return err
	})
	do("delete ended backends", func() error {
		var looked, tokens int64
		if err := s.pool.QueryRow(ctx, oldBackendsSQL, retainBatch, retain.Seconds()).Scan(&looked, &tokens, &d.Backends); err != nil {
			return err
		}
		d.Tokens += tokens
		// Backends whose tokens went just now can go next.
		d.Full = d.Full || tokens > 0 || (looked == retainBatch && d.Backends > 0)
		return nil
	})
	do("delete released leases", func() (err error) {
		if _, err := s.pool.Exec(ctx, followClockSQL); err != nil {
			return err
		}
		err = s.pool.QueryRow(ctx, oldLeasesSQL, retainBatch, max(retain, leasesFor).Seconds()).Scan(&d.Leases)
		d.Full = d.Full || d.Leases == retainBatch
		return err
	})
	do("delete sessions that are over", func() error {
		tag, err := s.pool.Exec(ctx, oldSessionsSQL, retainBatch)
		d.Full = d.Full || tag.RowsAffected() == retainBatch
		return err
	})
	do("delete lost drones", func() (err error) {
		d.Drones, err = read(ctx, s, pgx.RowTo[string], oldDronesSQL, retainBatch, retain.Seconds())
		d.Full = d.Full || len(d.Drones) == retainBatch
		return err
	})
	do("delete outbox rows that nothing takes", func() (err error) {
		d.Outbox, err = s.deleteOld(ctx, &d.Full, oldOutboxSQL, max(retain, outboxFor).Seconds())
		return err
	})
	return d, errors.Join(errs...)
}

// deleteOld gives how many rows one batch deleted.
func (s *Store) deleteOld(ctx context.Context, full *bool, sql string, args ...any) (int64, error) {
	tag, err := s.pool.Exec(ctx, sql, append([]any{retainBatch}, args...)...)
	*full = *full || tag.RowsAffected() == retainBatch
	return tag.RowsAffected(), err
}
