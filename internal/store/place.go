package store

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// chanceSQL is what the spawns that no drone has taken say of placing them again.
const chanceSQL = `
select b.id, o.body, (extract(epoch from now() - o.created_at) * 1000)::int8,
       exists (
           select from lease l
           where l.backend_id = b.id and l.released_at is null and l.expires_at > now() and l.renewable
           offset 0
       )
from backend b
cross join lateral (select o.body, o.created_at from outbox o where o.backend_id = b.id and o.kind = 'spawn' order by o.id limit 1) o
where b.id = any($1::text[])`

// placeSQL places backends on other drones: at the revision and in the state that was
// looked at, while their leases live and the drones still qualify, in the sessions that
// were picked. The lease is renewed, for its term now counts from a time of the new drone.
// The spawn's row becomes that of the new drone; the old one's, should somebody have
// it in hand, finds nobody who would take it (I1). It goes on standing for the state
// "scheduled", which perhaps nobody has published yet (I5).
const placeSQL = `
with input as materialized (
    select * from unnest($1::text[], $2::int4[], $3::text[], $4::text[], $5::text[]) as i (id, revision, drone, session, body)
),
locked as materialized (
    select l.backend_id
    from lease l
    where l.backend_id = any($1::text[]) and l.released_at is null and l.expires_at > now() and l.renewable
    order by l.namespace, l.name
    for no key update
),
placed as (
    update backend b
    set drone = d.name, session = d.session, revision = b.revision + 1
    from input i
    cross join lateral (select * from drone d where d.name = i.drone and d.session = i.session offset 0) d
    where b.id = any(array(select k.backend_id from locked k)) and b.id = i.id
      and b.revision = i.revision and b.status = 10 and b.asked = 0
      and d.ready and not d.draining and d.heard_at > now() - make_interval(secs => $6)
      and not ` + isFull + `
    returning b.id, b.drone, d.drone_time_ms, i.body
),
renewed as (
    update lease l
    set expires_at = now() + make_interval(secs => $7)
    where l.backend_id = any(array(select p.id from placed p)) and l.released_at is null
)
update outbox o
set id = nextval('outbox_id'), drone = p.drone, drone_time_ms = p.drone_time_ms, body = p.body,
    attempts = 0, due_at = now() + interval '5 seconds'
from placed p
where o.backend_id = any(array(select p.id from placed p)) and o.backend_id = p.id and o.kind = 'spawn'
returning ` + outboxColumns

// refusedSQL has a drone count as full until its next heartbeat. It comes before what
// locks leases, as in a heartbeat.
const refusedSQL = `
update drone set refused = true where name = $1 and session = $2 and not refused`

// chance is what is known of placing a backend again.
type chance struct {
	lifecycle.Chance
	body outbox.SpawnBody
	next *placement.Drone // nil unless all comes together
}

// untaken are the backends of changes whose spawns may not have been taken.
func untaken(changes []Change) (ids []string) {
	for _, c := range changes {
		switch c.Event.(type) {
		case lifecycle.Refused, lifecycle.Forgotten:
			ids = append(ids, c.BackendID)
		}
	}
	return ids
}

// queueChances reads what chances depend on, in the same round trip as b.
func (s *Store) queueChances(b *pgx.Batch, ids []string, chances map[string]*chance, drones *[]placement.Drone) {
	b.Queue(chanceSQL, ids).Query(func(rows pgx.Rows) error {
		var id, body string
		var age int64
		var held bool
		_, err := pgx.ForEachRow(rows, []any{&id, &body, &age, &held}, func() error {
			c := new(chance)
			if err := json.Unmarshal([]byte(body), &c.body); err != nil {
				return fmt.Errorf("read the spawn of %s: %w", id, err)
			}
			c.Held, c.InTime = held, age < c.body.PlaceWithinMS
			chances[id] = c
			return nil
		})
		return err
	})
	b.Queue(placeableSQL, s.terms.FreshWithin().Seconds()).Query(func(rows pgx.Rows) (err error) {
		*drones, err = pgx.CollectRows(rows, scanPlaceable)
		return err
	})
}

// choices is how many drones are compared for the least loaded.
const choices = 2

// pick finds drones for those that may be placed again: none that has refused it.
func pick(ids []string, backends map[string]*loaded, chances map[string]*chance, drones []placement.Drone) {
	snapshot := placement.NewSnapshot(drones)
	for _, id := range ids {
		l, c := backends[id], chances[id]
		if l == nil || c == nil || l.chance == c {
			continue
		}
		l.chance = c
		if c.InTime && c.Held && l.Status == messages.Scheduled && l.Asked == lifecycle.NotAsked {
			c.body.RefusedBy = append(c.body.RefusedBy, l.drone)
			c.next, c.Room = snapshot.Pick(l.cluster, l.pool, choices, rand.IntN, c.body.RefusedBy...)
		}
	}
}

// withChance gives the event with what was found out about its backend.
func (l *loaded) withChance(e lifecycle.Event) lifecycle.Event {
	if l.chance == nil {
		return e
	}
	switch e := e.(type) {
	case lifecycle.Refused:
		e.Chance = l.chance.Chance
		return e
	case lifecycle.Forgotten:
		e.Chance = l.chance.Chance
		return e
	}
	return e
}

// refusing is the holder if it has refused what it was given; nil otherwise.
func refusing(holder *Holder, changes []Change, backends map[string]*loaded) *Holder {
	if holder != nil && slices.ContainsFunc(changes, func(c Change) bool {
		_, refused := c.Event.(lifecycle.Refused)
		return refused && backends[c.BackendID].Status == messages.Scheduled
	}) {
		return holder
	}
	return nil
}

// queuePlaces places backends on the drones that were picked. It gives their ids; those
// that were placed are taken off missed.
func (s *Store) queuePlaces(b *pgx.Batch, saves [][]step, rows *[]outbox.Row) (missed map[string]bool) {
	var ids, drones, sessions, bodies []string
	var revisions []int32
	missed = make(map[string]bool)
	for _, steps := range saves {
		for i := range steps {
			st := &steps[i]
			if !st.actions.Place {
				continue
			}
			missed[st.from.id] = true
			body := st.from.chance.body
			body.Session = st.from.chance.next.Session
			ids, revisions = append(ids, st.from.id), append(revisions, st.from.revision)
			drones, sessions = append(drones, st.from.chance.next.Name), append(sessions, body.Session)
			bodies = append(bodies, string(messages.Encode(&body)))
		}
	}
	if len(ids) > 0 {
		b.Queue(placeSQL, ids, revisions, drones, sessions, bodies, s.terms.FreshWithin().Seconds(), s.terms.TTL.Seconds()).
			Query(func(r pgx.Rows) error {
				placed, err := pgx.CollectRows(r, scanOutbox)
				for i := range placed {
					delete(missed, placed[i].BackendID)
				}
				*rows = append(*rows, placed...)
				return err
			})
	}
	return missed
}
