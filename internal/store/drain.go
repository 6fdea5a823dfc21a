package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// droneEventBody is a messages.DroneEvent of the row n. Its id is made of the row's,
// for a session may be drained more than once.
const droneEventBody = `json_build_object('type', n.type, 'id', n.name || '.' || n.session || '.' || n.id,
           'drone', n.name, 'session', n.session, 'cluster', n.cluster, 'pool', n.pool)::text`

// drainSQL marks a drone and writes the event, unless it is marked so already.
const drainSQL = `
with changed as (
    update drone d set draining = $2
    where d.name = $1 and d.draining <> $2
    returning d.name, d.session, d.cluster, d.pool
),
published as (
    insert into outbox (id, kind, backend_id, drone, body, traceparent)
    select n.id, 'drone', n.name, n.name, ` + droneEventBody + `, $4
    from (select nextval('outbox_id') as id, $3::text as type, c.* from changed c offset 0) n
    returning id, body, created_at
)
select (select count(*) from backend b where b.drone = d.name and b.ended_at is null)::int4,
       coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from drone d left join published p on true
where d.name = $1`

// Drain has a drone be given no more backends, or with off again. It gives how many
// it has that have not ended, and the event to publish, if anything changed. ok is
// false when there is no such drone. A connect that was under way may still place one.
func (s *Store) Drain(ctx context.Context, drone string, off bool) (backends int, rows []outbox.Row, ok bool, err error) {
	what := messages.TypeDroneDraining
	if off {
		what = messages.TypeDroneUndrained
	}
	event := outbox.Row{Kind: outbox.KindDrone, BackendID: drone, Drone: drone, Traceparent: traceOf(ctx)}
	found, err := read(ctx, s, func(row pgx.CollectableRow) (n int, err error) {
		var body string
		err = row.Scan(&n, &event.ID, &body, &event.At)
		event.Body = []byte(body)
		return n, err
	}, drainSQL, drone, !off, what, event.Traceparent)
	if err != nil || len(found) == 0 {
		return 0, nil, false, wrap("drain a drone", err)
	}
	if event.ID != 0 {
		rows = append(rows, event)
	}
	return found[0], rows, true, nil
}
