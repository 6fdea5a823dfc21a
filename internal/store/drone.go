package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

const registerSQL = `
insert into drone as d (name, cluster, pool, session, runtime, version, max_backends, drone_time_ms, grace_ms, due_at,
                        max_memory_bytes, max_cpu_millis)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10), $11, $12)
on conflict (name) do update set
    cluster = excluded.cluster, pool = excluded.pool, runtime = excluded.runtime, version = excluded.version,
    max_backends = excluded.max_backends, max_memory_bytes = excluded.max_memory_bytes, max_cpu_millis = excluded.max_cpu_millis,
    drone_time_ms = excluded.drone_time_ms, grace_ms = excluded.grace_ms, heard_at = now(), lost_at = null,
    -- What is promised and refused in another session is said anew with its first heartbeat.
    load_memory_bytes = case when d.session = excluded.session then d.load_memory_bytes else 0 end,
    load_cpu_millis = case when d.session = excluded.session then d.load_cpu_millis else 0 end,
    refused = d.refused and d.session = excluded.session,
    ready = d.ready and d.session = excluded.session,
    registered_at = case when d.session = excluded.session then d.registered_at else now() end,
    session = excluded.session`

// adoptSQL makes the backends that still run, and hold their lease, those of the new session:
// also where the lease may not be renewed. Then the drone is told to kill it, and only its word
// that it has, or the lease's end, makes room for another (I1).
const adoptSQL = `
update backend b
set session = $2, revision = b.revision + 1
where b.id = any($3::text[]) and b.drone = $1 and b.session <> $2 and b.status < 70
  and exists (
      select from lease l
      where l.backend_id = b.id and l.released_at is null and l.expires_at > now()
      offset 0
  )`

// renewSQL renews the leases that this session holds. What is locked is checked
// again on the row as it is then.
var renewSQL = `
with mine as materialized (
    select l.backend_id
    from lease l
    cross join lateral (select b.id from backend b where b.id = l.backend_id and b.drone = $1 and b.session = $2 and b.status < 70 offset 0) b
    where l.backend_id = any($3::text[])
      and l.released_at is null and l.expires_at > now() and l.renewable
      and exists (select from drone d where d.name = $1 and d.session = $2)
    order by l.namespace, l.name
    for no key update of l
)
update lease l
set expires_at = now() + make_interval(secs => $4)
where l.backend_id = any(array(select backend_id from mine))
returning l.backend_id`

// orphansSQL are the backends of earlier sessions that the drone no longer runs, or that
// have no lease any more.
const orphansSQL = `
select b.id, b.session from backend b where b.drone = $1 and b.session <> $2 and b.ended_at is null`

const droneEventSQL = `
insert into outbox (id, kind, backend_id, drone, body)
values (nextval('outbox_id'), 'drone', $1, $1, $2)
returning id, created_at`

// untakenSQL has what the drone has not taken published again.
const untakenSQL = `
update outbox set due_at = now() where drone = $1 and until_status is not null`

// Register begins (or, in the same session, repeats) a session of a drone. It
// gives the backends that the session holds, with leases renewed; what is to become of
// those of earlier sessions that the drone no longer runs, for Transition; and the event
// to publish.
func (s *Store) Register(ctx context.Context, drone string, r *messages.RegisterRequest) (held []string, orphans []Change, event outbox.Row, err error) {
	body := string(messages.Encode(messages.DroneEvent{
		Type: messages.TypeDroneRegistered, ID: drone + "." + r.Session, Drone: drone,
		Session: r.Session, Cluster: r.Cluster, Pool: r.Pool,
	}))
	err = again(ctx, func() error {
		// One round trip; a batch is one transaction.
		b := &pgx.Batch{}
		b.Queue(registerSQL, drone, r.Cluster, r.Pool, r.Session, r.Runtime, r.Version, r.MaxBackends, r.DroneTimeMS,
			cmp.Or(r.GraceMS, defaultGrace.Milliseconds()), s.terms.TTL.Seconds(), r.MaxMemoryBytes, r.MaxCPUMillis)
		b.Queue(adoptSQL, drone, r.Session, r.Backends)
		b.Queue(renewSQL, drone, r.Session, r.Backends, s.terms.TTL.Seconds()).Query(collectInto(&held))
		b.Queue(orphansSQL, drone, r.Session).Query(func(rows pgx.Rows) (err error) {
			orphans, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Change, error) {
				c := Change{Event: lifecycle.Forgotten{}, Of: &Holder{Drone: drone}}
				err := row.Scan(&c.BackendID, &c.Of.Session)
				return c, err
			})
			return err
		})
		b.Queue(untakenSQL, drone)
		b.Queue(droneEventSQL, drone, body).QueryRow(func(row pgx.Row) error { return row.Scan(&event.ID, &event.At) })
		return s.pool.SendBatch(ctx, b).Close()
	})
	event.Kind, event.BackendID, event.Drone, event.Body = outbox.KindDrone, drone, drone, []byte(body)
	return held, orphans, event, wrap("register a drone", err)
}

// defaultGrace is that of drones which do not state theirs (design, section 7).
const defaultGrace = 10 * time.Second

// heartbeatSQL notes that a drone lives that is not lost, and what it has promised.
const heartbeatSQL = `
update drone
set heard_at = now(), ready = $3, drone_time_ms = greatest(drone_time_ms, $4),
    load_memory_bytes = $5, load_cpu_millis = $6, refused = false
where name = $1 and session = $2 and lost_at is null
returning draining`

// backSQL is heartbeatSQL for one that was lost: it is not any more, and an event says so.
const backSQL = `
with before as materialized (
    select d.lost_at is not null as lost from drone d where d.name = $1 and d.session = $2 for no key update
),
heard as (
    update drone d
    set heard_at = now(), ready = $3, drone_time_ms = greatest(d.drone_time_ms, $4), lost_at = null,
        load_memory_bytes = $5, load_cpu_millis = $6, refused = false
    from before
    where d.name = $1 and d.session = $2
    returning d.name, d.session, d.cluster, d.pool, d.draining, before.lost
),
back as (
    insert into outbox (id, kind, backend_id, drone, body)
    select n.id, 'drone', n.name, n.name, ` + droneEventBody + `
    from (select nextval('outbox_id') as id, $7::text as type, h.* from heard h where h.lost offset 0) n
    returning id, body, created_at
)
select h.draining, coalesce(b.id, 0), coalesce(b.body, ''), coalesce(b.created_at, now())
from heard h left join back b on true`

// droneEventBody is a messages.DroneEvent of the row n. Its id is made of the row's,
// for a session may be lost and come back more than once.
const droneEventBody = `json_build_object('type', n.type, 'id', n.name || '.' || n.session || '.' || n.id,
           'drone', n.name, 'session', n.session, 'cluster', n.cluster, 'pool', n.pool)::text`

// Heard is what a heartbeat gives.
type Heard struct {
	// Renewed are the backends whose leases were renewed.
	Renewed  []string
	Draining bool
	// Known says that the session is the drone's; otherwise nothing was done.
	Known bool
	// Back is the event to publish of a drone that was lost; nil when it was not.
	Back *outbox.Row
}

// Heartbeat notes that a drone lives and renews its leases in one round trip, and in
// one more where the drone is lost or the session not its own.
func (s *Store) Heartbeat(ctx context.Context, drone string, r *messages.HeartbeatRequest) (heard Heard, err error) {
	err = again(ctx, func() error {
		heard = Heard{Known: true}
		b := &pgx.Batch{}
		b.Queue(heartbeatSQL, drone, r.Session, r.Ready, r.DroneTimeMS, r.Load.MemoryBytes, r.Load.CPUMillis).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&heard.Draining)
			if errors.Is(err, pgx.ErrNoRows) {
				heard.Known = false
				return nil
			}
			return err
		})
		if len(r.Renew) > 0 {
			b.Queue(renewSQL, drone, r.Session, r.Renew, s.terms.TTL.Seconds()).Query(collectInto(&heard.Renewed))
		}
		return s.pool.SendBatch(ctx, b).Close()
	})
	if err == nil && !heard.Known {
		err = again(ctx, func() error { return s.back(ctx, drone, r, &heard) })
	}
	return heard, wrap("renew leases", err)
}

// back takes a lost drone as one that lives, should it be the session's.
func (s *Store) back(ctx context.Context, drone string, r *messages.HeartbeatRequest, heard *Heard) error {
	back := outbox.Row{Kind: outbox.KindDrone, BackendID: drone, Drone: drone}
	var body string
	err := s.pool.QueryRow(ctx, backSQL, drone, r.Session, r.Ready, r.DroneTimeMS, r.Load.MemoryBytes, r.Load.CPUMillis, messages.TypeDroneRegistered).
		Scan(&heard.Draining, &back.ID, &body, &back.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if heard.Known = err == nil; heard.Known && back.ID != 0 {
		back.Body = []byte(body)
		heard.Back = &back
	}
	return err
}

// HasSession says whether the session is the drone's.
func (s *Store) HasSession(ctx context.Context, drone, session string) (ok bool, err error) {
	err = s.pool.QueryRow(ctx, "select exists (select from drone where name = $1 and session = $2)", drone, session).Scan(&ok)
	return ok, wrap("look up a session", err)
}

func collectInto[T any](list *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(rows, pgx.RowTo[T])
		return err
	}
}
