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

// drainSQL marks a drone and writes the event, unless it is marked so already. $4 says in how many seconds the
// drain is to be over: null leaves that as it is. An undrain forgets it.
const drainSQL = `
with before as (
    select name, draining from drone where name = $1 for no key update
),
changed as (
    update drone d set draining = $2,
           drain_ends_at = case when not $2 then null else coalesce(now() + make_interval(secs => $4), d.drain_ends_at) end
    from before b
    where d.name = b.name and (d.draining <> $2 or $4::float8 is not null)
    returning d.name, d.session, d.cluster, d.pool, d.drain_ends_at, b.draining <> $2 as news
),
published as (
    insert into outbox (id, kind, backend_id, drone, body, traceparent)
    select n.id, 'drone', n.name, n.name, ` + droneEventBody + `, $5
    from (select nextval('outbox_id') as id, $3::text as type, c.* from changed c where c.news offset 0) n
    returning id, body, created_at
)
select (select count(*) from backend b where b.drone = d.name and b.ended_at is null)::int4,
       case when e.ends_at is not null then greatest(ceil(extract(epoch from e.ends_at - now())), 0)::int8 end,
       coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from drone d left join changed c on true left join published p on true
cross join lateral (select case when c.name is null then d.drain_ends_at else c.drain_ends_at end as ends_at) e
where d.name = $1`

// Drain has a drone be given no more backends, or with off again. It gives how many
// it has that have not ended and when those are ended, and the event to publish, if anything changed. ok is
// false when there is no such drone. A connect that was under way may still place one.
func (s *Store) Drain(ctx context.Context, r *messages.DrainRequest, off bool) (resp messages.DrainResponse, rows []outbox.Row, ok bool, err error) {
	what := messages.TypeDroneDraining
	if off {
		what = messages.TypeDroneUndrained
	}
	event := outbox.Row{Kind: outbox.KindDrone, BackendID: r.Drone, Drone: r.Drone, Traceparent: traceOf(ctx)}
	found, err := read(ctx, s, func(row pgx.CollectableRow) (resp messages.DrainResponse, err error) {
		var body string
		err = row.Scan(&resp.Backends, &resp.EndInSeconds, &event.ID, &body, &event.At)
		event.Body = []byte(body)
		return resp, err
	}, drainSQL, r.Drone, !off, what, r.EndAfterSeconds, event.Traceparent)
	if err != nil || len(found) == 0 {
		return resp, nil, false, wrap("drain a drone", err)
	}
	if event.ID != 0 {
		rows = append(rows, event)
	}
	return found[0], rows, true, nil
}
