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
	// CauseLost: it was sealed, and its lease has run out, or another has its key. It ends, now. What a session
	// takes with it that has expired is not looked for here: see [Store.Expire].
	CauseLost Cause = "lost"
	// CauseStart: it did not become ready in time. Its key is sealed, and it is to be killed.
	CauseStart Cause = "startup-timeout"
	// CauseGrace: it was asked to end, and its drone's grace is over. It is to be killed.
	CauseGrace Cause = "grace-over"
	// CauseStuck: it was to be killed, and has not gone. Its key is sealed, which ends it as lost.
	CauseStuck Cause = "stuck"
	// CauseLifetime: its lifetime is over. It is asked to end.
	CauseLifetime Cause = "lifetime"
	// CauseIdle: nobody has been connected for too long. It is asked to end.
	CauseIdle Cause = "idle"
	// CauseDrained: its drone drains, and what the operator gave its backends is over. It is asked to end.
	CauseDrained Cause = "drained"
	// CauseAsleep: nobody has been connected for as long as it is to be awake then. It is put to sleep.
	CauseAsleep Cause = "asleep"
)

// Due is a backend to which a sweep has done something.
type Due struct {
	BackendID, Drone string
	Cause            Cause
	// Reason is that of the termination asked for.
	Reason messages.TerminationReason
	// looked is when that was found, by the database's clock.
	looked time.Time
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

var (
	sweepSQL = statement("sweep")
	sealSQL  = statement("seal")
)

// Sweep does what is due for at most sweepBatch backends: by the rules of lifecycle, each
// thing once however many workers sweep. startWithin is how long a backend may
// take to become ready, counted from its scheduling.
func (s *Store) Sweep(ctx context.Context, startWithin time.Duration) (swept Swept, err error) {
	due, full, err := s.due(ctx, startWithin)
	if err == nil {
		due, err = s.drained(ctx, due)
	}
	if err != nil || len(due) == 0 {
		return Swept{Full: full}, err
	}
	if err := s.seal(ctx, due); err != nil {
		return Swept{}, err
	}
	var changes []Change
	for _, d := range due {
		if e := d.event(); e != nil {
			c := Change{BackendID: d.BackendID, Event: e}
			if d.Cause == CauseIdle || d.Cause == CauseAsleep {
				c.IdleSince = d.looked
			}
			changes = append(changes, c)
		}
	}
	rows, gone, err := s.Transition(ctx, nil, changes)
	if err == nil && len(gone) > 0 {
		err = fmt.Errorf("backends that were due are gone: %v", gone)
	}
	swept = Swept{Done: done(due, rows), Rows: rows, Full: full}
	if err == nil {
		var woken []outbox.Row
		woken, err = s.wakeStirred(ctx, swept.Done)
		swept.Rows = append(swept.Rows, woken...)
	}
	return swept, err
}

// due finds what is due and puts it off.
func (s *Store) due(ctx context.Context, startWithin time.Duration) (due []Due, full bool, err error) {
	looked, err := read(ctx, s, func(row pgx.CollectableRow) (d Due, err error) {
		err = row.Scan(&d.BackendID, &d.Drone, (*string)(&d.Cause), (*string)(&d.Reason), &d.looked)
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
	terms := s.Terms()
	return []any{
		sweepBatch, startWithin.Seconds(), terms.RenewEvery().Seconds(), keepaliveWithin.Seconds(), putOff.Seconds(),
		s.clock.trusted(), terms.TTL.Seconds(),
	}
}

// event is what the rules of lifecycle are to apply; nil when there is nothing to
// do but to wait for the lease's end.
func (d *Due) event() lifecycle.Event {
	switch d.Cause {
	case CauseLost:
		return lifecycle.Lost{}
	case CauseStart:
		return lifecycle.TerminateAsked{Hard: true, Reason: d.Reason, Why: messages.Why{
			Cause: messages.CauseStartup, Words: "it did not get ready for as long as the workers wait (--start-within), and its drone has not ended it",
		}}
	case CauseGrace:
		return lifecycle.TerminateAsked{Hard: true, Reason: d.Reason}
	case CauseLifetime:
		return lifecycle.TerminateAsked{Reason: d.Reason, Why: messages.Why{
			Cause: messages.CauseLifetime, Words: "its lifetime is over (lifetime_limit_seconds)",
		}}
	case CauseIdle:
		return lifecycle.TerminateAsked{Reason: d.Reason, Why: messages.Why{
			Cause: messages.CauseIdle, Words: "nobody was connected for as long as its idle limit (max_idle_seconds)",
		}}
	case CauseDrained:
		return lifecycle.TerminateAsked{Reason: d.Reason, Why: messages.Why{
			Cause: messages.CauseDrained, Words: "its drone was drained, and the time until what is left ends was over (jetway drain --end-after)",
		}}
	case CauseAsleep:
		return lifecycle.SleepAsked{}
	case CauseStuck:
	}
	return nil
}

// seal has what did not go in time renewed no more with its session (I6).
func (s *Store) seal(ctx context.Context, due []Due) error {
	var stuck []string
	for _, d := range due {
		if d.Cause == CauseStart || d.Cause == CauseStuck {
			stuck = append(stuck, d.BackendID)
		}
	}
	if len(stuck) == 0 {
		return nil
	}
	return wrap("end the renewal of keys", again(ctx, func() error {
		var drones, sessions []string
		lock := func(b *pgx.Batch) {
			b.Queue(lockSessionsSQL, stuck, s.clock.trusted()).Query(func(rows pgx.Rows) error {
				var drone, session string
				_, err := pgx.ForEachRow(rows, []any{&drone, &session, nil, nil, nil, nil, nil}, func() error {
					drones, sessions = append(drones, drone), append(sessions, session)
					return nil
				})
				return err
			})
		}
		return s.transact(ctx, lock, func(_ context.Context, _ *pgx.Conn, b *pgx.Batch) error {
			b.Queue(sealSQL, stuck, drones, sessions)
			return nil
		})
	}))
}

// done are those of due that this sweep has changed and not another one's: a
// change made by this one is among the rows to publish.
func done(due []Due, rows []outbox.Row) (list []Due) {
	changed := make(map[string]bool, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.Kind == outbox.KindTerminate || r.Kind == outbox.KindNap || r.Status == messages.Terminated {
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
