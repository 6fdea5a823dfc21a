package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

// drainedSQL gives backends that are still on drones whose drain is to be over, and that nobody has asked to end. After a
// jump of the clock, $2, it gives none.
const drainedSQL = `
select b.id, b.drone
from drone d
cross join lateral (select * from backend b where b.drone = d.name and b.ended_at is null offset 0) b
where d.drain_ends_at <= now() and now() <= $2 and exists (select from settled) and b.asked = 0 and b.status < 60
order by b.id
limit $1`

// drained adds what the end of a drain ends. It is looked for each time anew, so it also finds what a connect
// placed that was under way when the drain began. Two workers may find the same: by the rules of lifecycle it
// is asked once.
func (s *Store) drained(ctx context.Context, due []Due) ([]Due, error) {
	found, err := read(ctx, s, func(row pgx.CollectableRow) (Due, error) {
		d := Due{Cause: CauseDrained, Reason: messages.ReasonExternal}
		return d, row.Scan(&d.BackendID, &d.Drone)
	}, drainedSQL, sweepBatch, s.clock.trusted())
	for _, d := range found {
		if !slices.ContainsFunc(due, func(other Due) bool { return other.BackendID == d.BackendID }) {
			due = append(due, d)
		}
	}
	return due, wrap("look for backends whose drones are to be drained", err)
}
