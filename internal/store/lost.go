package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// lostDronesSQL marks the drones that have not been heard from for $1 seconds, and
// writes the event. Like sweepSQL it walks along an index as far as the present, and
// puts the others off until they may be lost.
const lostDronesSQL = `
with due as materialized (
    select d.name, d.heard_at <= now() - make_interval(secs => $1) as lost
    from drone d
    where d.lost_at is null and d.due_at <= now() and d.due_at > '-infinity'
    order by d.due_at
    limit $2
    for no key update skip locked
),
alive as (
    update drone d set due_at = d.heard_at + make_interval(secs => $1)
    where d.name = any(array(select u.name from due u where not u.lost))
),
lost as (
    update drone d set lost_at = now()
    where d.name = any(array(select u.name from due u where u.lost))
    returning d.name, d.session, d.cluster, d.pool
),
published as (
    insert into outbox (id, kind, backend_id, drone, body)
    select n.id, 'drone', n.name, n.name, ` + droneEventBody + `
    from (select nextval('outbox_id') as id, $3::text as type, l.* from lost l offset 0) n
    returning id, drone, body, created_at
)
select u.name, coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from due u left join published p on p.drone = u.name`

// withdrawSQL takes terminations off the record that lost drones need no more: their
// backends' leases have run out, and by then the drone has killed them, or nothing
// runs there. A backend whose lease goes on, for it was placed late, keeps its actions (I3).
const withdrawSQL = `
delete from outbox o
where o.drone = any($1::text[]) and o.kind = 'terminate'
  and not exists (
      select from lease l
      where l.backend_id = o.backend_id and l.released_at is null and l.expires_at > now()
      offset 0
  )`

// LostDrones marks drones that have not been heard from for as long as a lease lives,
// at most sweepBatch of them, each once however many workers look. It gives the events to
// publish, one a drone. One that heartbeats or registers again is lost no more.
func (s *Store) LostDrones(ctx context.Context) (events []outbox.Row, full bool, err error) {
	looked, err := read(ctx, s, func(row pgx.CollectableRow) (outbox.Row, error) {
		event := outbox.Row{Kind: outbox.KindDrone}
		var body string
		err := row.Scan(&event.Drone, &event.ID, &body, &event.At)
		event.BackendID, event.Body = event.Drone, []byte(body)
		return event, err
	}, lostDronesSQL, s.lostArgs()...)
	var names []string
	for _, e := range looked {
		if e.ID != 0 {
			events, names = append(events, e), append(names, e.Drone)
		}
	}
	if len(names) == 0 {
		return nil, len(looked) == sweepBatch, wrap("look for lost drones", err)
	}
	// What is left should this fail is given up with time (claimSQL).
	err = again(ctx, func() error {
		_, err := s.pool.Exec(ctx, withdrawSQL, names)
		return err
	})
	return events, len(looked) == sweepBatch, wrap("withdraw the terminations of lost drones", err)
}

func (s *Store) lostArgs() []any {
	return []any{s.terms.TTL.Seconds(), sweepBatch, messages.TypeDroneLost}
}
