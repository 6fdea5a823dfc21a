package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/outbox"
)

// oneClaimsAllSQL has those who claim everything, as all workers do when the bus is back,
// wait for each other instead of for each other's rows.
const oneClaimsAllSQL = `select pg_advisory_xact_lock(hashtext('outbox'))`

// dueNowSQL makes everything overdue but what somebody has in hand.
const dueNowSQL = `
with later as materialized (
    select o.id from outbox o where o.due_at > now() order by o.id for update skip locked
)
update outbox o set due_at = now() where o.id = any(array(select l.id from later l))`

// claimSQL takes what is overdue off the hands of other workers for a while.
// All rows of a backend go together, so that its states stay in order: who has the
// first of them has them all, and looks whether it is still due (I5). Each try
// doubles the time until the next, up to a minute. Actions for what has ended are not
// offered for ever: a drone that still runs it has learnt from its renewals that it must not.
const claimSQL = `
with outdated as materialized (
    select o.id
    from outbox o
    where o.until_status is not null and o.due_at <= now() and o.created_at < now() - interval '10 minutes'
      and not exists (select from backend b where b.id = o.backend_id and b.status < 70 offset 0)
    order by o.id
    limit $1
    for update skip locked
),
given_up as (
    delete from outbox o where o.id = any(array(select u.id from outdated u))
),
due as (
    select backend_id, min(id) as first
    from outbox o
    where due_at <= now() and not exists (select from outdated u where u.id = o.id)
    group by backend_id
    order by first
    limit $1
),
locked as materialized (
    select o.backend_id
    from outbox o
    where o.id in (select first from due) and o.due_at <= now()
    order by o.id
    for update skip locked
),
-- Those that follow; who has one of them locked, as an action that has been taken, sees to it.
all_of_them as materialized (
    select o.id
    from outbox o
    where o.backend_id = any(array(select l.backend_id from locked l)) and not exists (select from outdated u where u.id = o.id)
    order by o.id
    for update skip locked
),
claimed as (
    update outbox o
    set due_at = now() + make_interval(secs => least(60, 5 * (1 << least(o.attempts, 4)))), attempts = least(o.attempts + 1, 100)
    where o.id = any(array(select a.id from all_of_them a))
    returning ` + outboxColumns + `
)
select * from claimed order by id`

const outboxColumns = `o.id, o.kind, o.backend_id, o.drone, o.status, o.last_status,
          o.body, coalesce((select b.fencing_token from backend b where b.id = o.backend_id), 0),
          coalesce((select b.sealed_token from backend b where b.id = o.backend_id), ''),
          coalesce((select b.resumes from backend b where b.id = o.backend_id), ''), o.drone_time_ms,
          o.traceparent, o.nap, o.created_at`

func scanOutbox(row pgx.CollectableRow) (r outbox.Row, err error) {
	var body string
	err = row.Scan(&r.ID, &r.Kind, &r.BackendID, &r.Drone, (*int16)(&r.Status), (*int16)(&r.LastStatus),
		&body, &r.FencingToken, &r.StaticToken, &r.Resumes, &r.DroneTimeMS, &r.Traceparent, &r.Nap, &r.At)
	r.Body = []byte(body)
	return r, err
}

// ClaimOutbox takes overdue rows (outbox.Store). The limit counts backends.
func (s *Store) ClaimOutbox(ctx context.Context, all bool, limit int) ([]outbox.Row, error) {
	var rows []outbox.Row
	err := again(ctx, func() (err error) {
		if !all {
			rows, err = read(ctx, s, scanOutbox, claimSQL, limit)
			return err
		}
		// In one transaction: what is made overdue here is taken here.
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			for _, sql := range []string{oneClaimsAllSQL, dueNowSQL} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			claimed, err := tx.Query(ctx, claimSQL, limit)
			if err == nil {
				rows, err = pgx.CollectRows(claimed, scanOutbox)
			}
			return err
		})
	})
	return rows, wrap("claim outbox rows", err)
}

// Nobody waits for the disk here: what a crash brings back is published again.
// The time tells a row from another one that has got its number: sequences go back with a
// restored dump, and with a failover that lost commits.
const deleteSQL = `
delete from outbox o
using unnest($1::int8[], $2::timestamptz[]) as d (id, at)
where o.id = any($1::int8[]) and o.id = d.id and o.created_at = d.at and set_config('synchronous_commit', 'off', true) is not null`

// DeleteOutbox takes published states off (outbox.Store).
func (s *Store) DeleteOutbox(ctx context.Context, rows []outbox.Row) error {
	ids, times := make([]int64, len(rows)), make([]time.Time, len(rows))
	for i := range rows {
		ids[i], times[i] = rows[i].ID, rows[i].At
	}
	err := again(ctx, func() error {
		_, err := s.pool.Exec(ctx, deleteSQL, ids, times)
		return err
	})
	return wrap("delete outbox rows", err)
}

// The same pass over the table as claimSQL's, which comes more often.
const backlogSQL = `
select kind, count(*),
       extract(epoch from max(now() - created_at))::float8,
       extract(epoch from greatest(max(now() - due_at), interval '0'))::float8
from outbox
group by kind`

// Backlog is what lies in the outbox of one kind.
type Backlog struct {
	Kind outbox.Kind
	Rows int
	// Oldest is the age of the oldest row; Overdue how far the most overdue is past
	// the time at which it should have been published again.
	Oldest, Overdue time.Duration
}

// Backlog says what lies in the outbox. Kinds without rows are left out.
func (s *Store) Backlog(ctx context.Context) ([]Backlog, error) {
	rows, err := read(ctx, s, func(row pgx.CollectableRow) (b Backlog, err error) {
		var oldest, overdue float64
		err = row.Scan(&b.Kind, &b.Rows, &oldest, &overdue)
		b.Oldest, b.Overdue = time.Duration(oldest*float64(time.Second)), time.Duration(overdue*float64(time.Second))
		return b, err
	}, backlogSQL)
	return rows, wrap("read the outbox's backlog", err)
}
