package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

var (
	expireSQL      = statement("expire")
	leftBehindSQL  = statement("left_behind")
	oldSessionsSQL = statement("old_sessions")
)

// Expired is what one look at the sessions did.
type Expired struct {
	// Drones are the events of those that are lost, one each.
	Drones []outbox.Row
	// Done are backends that ended with their session's lease.
	Done []Due
	// Rows are to be published, besides the events of Drones.
	Rows []outbox.Row
	// Full says that there may be more to do at once.
	Full bool
}

// Expire seals the sessions whose leases have expired, each once however many workers
// look: so their drones are lost, and what they held ends as lost, at most sweepBatch backends.
func (s *Store) Expire(ctx context.Context) (e Expired, err error) {
	looked, err := read(ctx, s, func(row pgx.CollectableRow) (outbox.Row, error) {
		event := outbox.Row{Kind: outbox.KindDrone}
		var body string
		err := row.Scan(&event.Drone, &event.ID, &body, &event.At)
		event.BackendID, event.Body = event.Drone, []byte(body)
		return event, err
	}, expireSQL, s.expireArgs()...)
	if err != nil {
		return e, wrap("look for sessions that have expired", err)
	}
	for _, event := range looked {
		if event.ID != 0 {
			e.Drones = append(e.Drones, event)
		}
	}
	left, err := read(ctx, s, func(row pgx.CollectableRow) (d Due, err error) {
		d.Cause = CauseLost
		err = row.Scan(&d.BackendID, &d.Drone)
		return d, err
	}, leftBehindSQL, s.clock.trusted(), sweepBatch)
	if err != nil {
		return e, wrap("look for backends whose session has expired", err)
	}
	e.Full = len(looked) == sweepBatch || len(left) == sweepBatch
	changes := make([]Change, len(left))
	for i, d := range left {
		changes[i] = Change{BackendID: d.BackendID, Event: lifecycle.Lost{}}
	}
	// One that is gone has ended, and retention has deleted it.
	e.Rows, _, err = s.Transition(ctx, nil, changes)
	e.Done = done(left, e.Rows)
	return e, err
}

func (s *Store) expireArgs() []any {
	return []any{s.clock.trusted(), sweepBatch, messages.TypeDroneLost}
}
