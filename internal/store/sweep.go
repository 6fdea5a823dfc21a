package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// Cause says why a sweep does something to a backend.
type Cause string

// The causes, in the order in which they are looked for.
const (
	// CauseLost: its lease has run out, or another has it. It ends, now.
	CauseLost Cause = "lost"
	// CauseStart: it did not become ready in time. Its lease is renewed no more, and it is to be killed.
	CauseStart Cause = "startup-timeout"
	// CauseGrace: it was asked to end, and its drone's grace is over. It is to be killed.
	CauseGrace Cause = "grace-over"
	// CauseStuck: it was to be killed, and has not gone. Its lease is renewed no more, which ends it as lost.
	CauseStuck Cause = "stuck"
	// CauseLimit: its lifetime is over, or nobody has been connected for too long. It is asked to end.
	CauseLimit Cause = "limit"
)

// Due is a backend to which a sweep has done something.
type Due struct {
	BackendID, Drone string
	Cause            Cause
	// Reason is that of the termination asked for.
	Reason messages.TerminationReason
}

// Swept is what one sweep did.
type Swept struct {
	Done []Due
	// Rows are to be published.
	Rows []outbox.Row
	// Full says that there may be more to do at once.
	Full bool
}

const (
	// sweepBatch is the most backends or drones that one statement looks at.
	sweepBatch = 128
	// putOff is for how long what one worker deals with is no other's.
	putOff = 5 * time.Second
	// keepaliveWithin is longer than what lies between two words of a proxy about an
	// open connection (design, section 8), so a limit below it counts as this once
	// somebody has been connected.
	keepaliveWithin = 15 * time.Second
)

// sweepSQL looks at the backends of which something may be due. It is one walk along
// backend_due, as far as the present, and point look-ups; what others look at is left to
// them. Where nothing is due, due_at moves on to when something may be; where
// something is, it is put off, so that no other worker does it too.
const sweepSQL = `
with due as materialized (
    select b.id, b.drone, b.status, b.asked, b.termination_reason, b.created_at, b.changed_at, b.last_keepalive_at,
           b.lifetime_ends_at, make_interval(secs => b.max_idle_seconds) as max_idle, coalesce(b.asked_at, b.changed_at) as asked_at
    from backend b
    where b.ended_at is null and b.due_at <= now() and b.due_at > '-infinity'
    order by b.due_at
    limit $1
    for no key update skip locked
),
times as materialized (
    select d.id, d.drone, d.status, d.termination_reason,
           coalesce(l.expires_at, '-infinity') as lease_ends,
           case when d.asked < 2 and d.status < 50 then d.created_at + make_interval(secs => $2) end as start_ends,
           -- The process has its grace from when it was told, if the drone said so.
           case when d.asked < 2 and d.status = 60 then d.changed_at
                when d.asked = 1 and d.status < 60 then d.asked_at
           end + make_interval(secs => $3 + coalesce(r.grace_ms, 0) / 1000.0) as grace_ends,
           case when not l.renewable then null
                when d.status = 65 then d.changed_at
                when d.asked = 2 then d.asked_at
           end + make_interval(secs => $3) as kill_ends,
           case when d.asked > 0 or d.status >= 60 then null
                else least(d.lifetime_ends_at, case
                    when d.max_idle is null then null -- which greatest would leave out
                    -- Nobody can be connected to it yet, and what ends a start is its own bound.
                    when d.status < 50 then now() + d.max_idle
                    when d.last_keepalive_at <= d.created_at then d.changed_at + d.max_idle
                    else greatest(d.changed_at + d.max_idle, d.last_keepalive_at + greatest(d.max_idle, make_interval(secs => $4)))
                end)
           end as limit_ends
    from due d
    left join lateral (select * from lease l where l.backend_id = d.id and l.released_at is null offset 0) l on true
    left join lateral (select r.grace_ms from drone r where r.name = d.drone offset 0) r on true
),
looked as materialized (
    select t.*, case
        when lease_ends <= now() then 'lost'
        when start_ends <= now() then 'startup-timeout'
        when grace_ends <= now() then 'grace-over'
        when kill_ends <= now() then 'stuck'
        when limit_ends <= now() then 'limit'
        else '' end as cause
    from times t
),
moved as (
    update backend b
    set due_at = (
        select case when k.cause = '' then least(k.lease_ends, k.start_ends, k.grace_ends, k.kill_ends, k.limit_ends)
                    else now() + make_interval(secs => $5) end
        from looked k where k.id = b.id)
    where b.id = any(array(select k.id from looked k))
)
select k.id, k.drone, k.cause, case k.cause
    when 'startup-timeout' then 'startup-timeout'
    when 'limit' then 'swept'
    -- The reason is that of who asked softly: the drone stated it, or its action still says it.
    when 'grace-over' then coalesce(nullif(k.termination_reason, ''), (
        select min(o.body::json ->> 'reason') from outbox o where o.backend_id = k.id and o.kind = 'terminate'), '')
    else '' end
from looked k`

// sealSQL keeps leases from being renewed any more: those of $2, and those of $1 that
// have run out as their rows are once they are locked. It gives those of $1 that
// a renewal saved meanwhile.
const sealSQL = `
with locked as materialized (
    select l.backend_id, l.expires_at <= now() as expired
    from lease l
    where l.backend_id = any($1::text[] || $2::text[]) and l.released_at is null
    order by l.namespace, l.name
    for no key update
),
sealed as (
    update lease l
    set renewable = false
    where l.backend_id = any(array(select k.backend_id from locked k where k.expired or k.backend_id = any($2::text[])))
)
select k.backend_id from locked k where not k.expired and k.backend_id = any($1::text[])`

// Sweep does what is due for at most sweepBatch backends: by the rules of lifecycle, each
// thing once however many workers sweep. startWithin is how long a backend may
// take to become ready, counted from its scheduling.
func (s *Store) Sweep(ctx context.Context, startWithin time.Duration) (swept Swept, err error) {
	due, full, err := s.due(ctx, startWithin)
	if err != nil || len(due) == 0 {
		return Swept{Full: full}, err
	}
	if due, err = s.seal(ctx, due); err != nil {
		return Swept{}, err
	}
	var changes []Change
	for _, d := range due {
		if e := d.event(); e != nil {
			changes = append(changes, Change{BackendID: d.BackendID, Event: e})
		}
	}
	rows, gone, err := s.Transition(ctx, nil, changes)
	if err == nil && len(gone) > 0 {
		err = fmt.Errorf("backends that were due are gone: %v", gone)
	}
	return Swept{Done: done(due, rows), Rows: rows, Full: full}, err
}

// due finds what is due and puts it off.
func (s *Store) due(ctx context.Context, startWithin time.Duration) (due []Due, full bool, err error) {
	looked, err := read(ctx, s, func(row pgx.CollectableRow) (d Due, err error) {
		err = row.Scan(&d.BackendID, &d.Drone, (*string)(&d.Cause), (*string)(&d.Reason))
		return d, err
	}, sweepSQL, s.sweepArgs(startWithin)...)
	for _, d := range looked {
		if d.Cause != "" {
			due = append(due, d)
		}
	}
	return due, len(looked) == sweepBatch, wrap("look for backends that are due", err)
}

// sweepArgs are the times of a sweep; a margin, in which an action and what it
// causes have come about, is as long as what lies between two heartbeats.
func (s *Store) sweepArgs(startWithin time.Duration) []any {
	return []any{sweepBatch, startWithin.Seconds(), s.terms.RenewEvery().Seconds(), keepaliveWithin.Seconds(), putOff.Seconds()}
}

// event is what the rules of lifecycle are to apply; nil when there is nothing to
// do but to wait for the lease's end.
func (d *Due) event() lifecycle.Event {
	switch d.Cause {
	case CauseLost:
		return lifecycle.Lost{}
	case CauseStart, CauseGrace:
		return lifecycle.TerminateAsked{Hard: true, Reason: d.Reason}
	case CauseLimit:
		return lifecycle.TerminateAsked{Reason: d.Reason}
	case CauseStuck:
	}
	return nil
}

// seal sees to it that what ends as lost cannot be saved by a renewal that is under
// way (I1), and that what did not go in time is renewed no more (I6). It gives due
// without what such a renewal has saved.
func (s *Store) seal(ctx context.Context, due []Due) (left []Due, err error) {
	var lost, stuck []string
	for _, d := range due {
		switch d.Cause {
		case CauseLost:
			lost = append(lost, d.BackendID)
		case CauseStart, CauseStuck:
			stuck = append(stuck, d.BackendID)
		case CauseGrace, CauseLimit:
		}
	}
	if len(lost)+len(stuck) == 0 {
		return due, nil
	}
	var saved []string
	err = again(ctx, func() error {
		saved, err = read(ctx, s, pgx.RowTo[string], sealSQL, lost, stuck)
		return err
	})
	if err != nil {
		return nil, wrap("end the renewal of leases", err)
	}
	alive := make(map[string]bool, len(saved))
	for _, id := range saved {
		alive[id] = true
	}
	for _, d := range due {
		if !alive[d.BackendID] {
			left = append(left, d)
		}
	}
	return left, nil
}

// done are those of due that this sweep has changed and not another one's: a
// change made by this one is among the rows to publish.
func done(due []Due, rows []outbox.Row) (list []Due) {
	changed := make(map[string]bool, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.Kind == outbox.KindTerminate || r.Status == messages.Terminated {
			changed[r.BackendID] = true
		}
	}
	for _, d := range due {
		if d.Cause == CauseStuck || changed[d.BackendID] {
			list = append(list, d)
		}
	}
	return list
}
