package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

const backendColumns = `b.id, b.namespace, b.name, b.tag, b.cluster, b.pool, b.drone, b.fencing_token, b.subdomain,
       b.created_at, b.changed_at, b.status, b.address, b.last_status, b.termination_kind, b.termination_reason,
       b.message, b.exit_code, b.termination_cause, b.termination_by, b.termination_why, b.ended_at, b.lifetime_ends_at, b.max_idle_seconds, b.runs, b.template,
       b.sleep_after_seconds, b.sleep_ignores_idle, b.nap, b.nap % 2 = 1, b.reclaimed_bytes, b.resumes,
       (select l.resume_seconds from lease l where l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id),
       (select l.dormant_until from lease l where l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id and l.dormant_until > now()),
       nullif(greatest(b.last_keepalive_at, (select max(c.seen_at) from connection c where c.backend_id = b.id)), b.created_at)`

func scanBackend(row pgx.CollectableRow) (b messages.BackendInfo, err error) {
	err = row.Scan(&b.BackendID, &b.Key.Namespace, &b.Key.Name, &b.Key.Tag, &b.Cluster, &b.Pool, &b.Drone, &b.FencingToken,
		&b.Subdomain, &b.CreatedAt, &b.ChangedAt, (*int16)(&b.Status), &b.Address, (*int16)(&b.LastStatus),
		&b.Kind, &b.Reason, &b.Message, &b.ExitCode, &b.Cause, &b.By, &b.Words, &b.EndedAt, &b.LifetimeEndsAt, &b.MaxIdleSeconds, &b.Runs,
		&b.Template, &b.SleepAfterSeconds, &b.SleepIgnoresIdleConnections, &b.Nap.Nap, &b.Asleep, &b.ReclaimedBytes, &b.Resumes, &b.ResumeSeconds, &b.DormantUntil, &b.LastUsedAt)
	b.Number = int(b.Status)
	return b, err
}

const statusSQL = `select ` + backendColumns + ` from backend b where b.id = $1`

// Backend gives one backend; ok is false when there is none.
func (s *Store) Backend(ctx context.Context, id string) (info messages.BackendInfo, ok bool, err error) {
	list, err := read(ctx, s, scanBackend, statusSQL, id)
	if err != nil || len(list) == 0 {
		return info, false, wrap("read a backend", err)
	}
	return list[0], true, s.addMore(ctx, &list[0])
}

const keyHolderSQL = `
select ` + backendColumns + `
from lease l
join backend b on b.id = l.backend_id
where l.namespace = $1 and l.name = $2`

// Holder gives the backend that holds a key, or held it last; ok is false when there is none, or it is forgotten.
func (s *Store) Holder(ctx context.Context, key *messages.Key) (info messages.BackendInfo, ok bool, err error) {
	list, err := read(ctx, s, scanBackend, keyHolderSQL, key.Namespace, key.Name)
	if err != nil || len(list) == 0 {
		return info, false, wrap("read the backend of a key", err)
	}
	return list[0], true, s.addMore(ctx, &list[0])
}

// addMore adds what listings leave out.
func (s *Store) addMore(ctx context.Context, info *messages.BackendInfo) error {
	if err := s.addUsers(ctx, info); err != nil {
		return err
	}
	return s.addCrashes(ctx, info)
}

// usersSQL gives the users of a backend, $1, who have tokens that live, $2 at most, by name. It goes from name to name, however
// many tokens each has.
const usersSQL = `
with recursive u as (
    (select t.username from token t where t.backend_id = $1 and t.username > '' order by t.username limit 1)
    union all
    select (select t.username from token t where t.backend_id = $1 and t.username > u.username order by t.username limit 1)
    from u where u.username is not null
)
select u.username
from u
where u.username is not null
  and exists (select from token t where t.backend_id = $1 and t.username = u.username and t.expires_at > now())
limit $2`

// addUsers adds to what is known of a backend who has tokens of it.
func (s *Store) addUsers(ctx context.Context, info *messages.BackendInfo) error {
	users, err := read(ctx, s, pgx.RowTo[string], usersSQL, info.BackendID, messages.MaxUsers+1)
	if info.MoreUsers = len(users) > messages.MaxUsers; info.MoreUsers {
		users = users[:messages.MaxUsers]
	}
	info.Users = users
	return wrap("read the users of a backend", err)
}

// liveSQL walks the live backends alone: the index that is for ids greater than ” holds no others.
const liveSQL = `
select ` + backendColumns + `
from backend b
where b.ended_at is null and b.id > '' and b.id > $1
order by b.id
limit $2`

// liveOfSQL gives those of one drone: it looks at all that the drone has, by the index that holds live ones.
const liveOfSQL = `
with mine as materialized (
    select id from backend where ended_at is null and drone = $3
), page as materialized (
    select id from mine where id > $1 order by id limit $2
)
select ` + backendColumns + `
from page p
join backend b on b.id = p.id
order by b.id`

// allSQL gives ended ones too.
const allSQL = `
select ` + backendColumns + `
from backend b
where b.id > $1
order by b.id
limit $2`

// Backends gives a page of backends, by id, and where the next begins. A page may have fewer rows than were
// asked for, also none, and not be the last.
func (s *Store) Backends(ctx context.Context, r *messages.BackendsRequest) (page messages.BackendsResponse, err error) {
	var list []messages.BackendInfo
	switch {
	case r.Filtered(), r.All && r.Drone != "":
		list, page.Next, err = s.filtered(ctx, r)
	case r.All:
		list, err = read(ctx, s, scanBackend, allSQL, r.After, r.Limit+1)
	case r.Drone != "":
		list, err = read(ctx, s, scanBackend, liveOfSQL, r.After, r.Limit+1, r.Drone)
	default:
		list, err = read(ctx, s, scanBackend, liveSQL, r.After, r.Limit+1)
	}
	page.Backends = list
	if len(list) > r.Limit {
		page.Backends = list[:r.Limit]
		page.Next = page.Backends[r.Limit-1].BackendID
	}
	return page, wrap("list backends", err)
}

// droneFull says whether a drone d with its session s takes no more, by its last word, as placement.Drone.Full.
const droneFull = `coalesce(s.refused
       or d.max_backends > 0 and s.load_backends >= d.max_backends
       or d.max_memory_bytes > 0 and s.load_memory_bytes >= d.max_memory_bytes
       or d.max_cpu_millis > 0 and s.load_cpu_millis >= d.max_cpu_millis, false)`

const dronesSQL = `
select d.name, d.cluster, d.pool, d.session, d.runtime, d.version, coalesce(s.ready, false), coalesce(s.not_ready, ''), d.draining, d.max_backends,
       d.max_memory_bytes, d.max_cpu_millis,
       coalesce(s.load_backends, 0), coalesce(s.load_memory_bytes, 0), coalesce(s.load_cpu_millis, 0),
       coalesce((extract(epoch from now() - s.heard_at) * 1000)::int8, 0), d.lost_at is not null, ` + droneFull + `,
       nullif(s.spares, '[]')
from drone d
left join session s on s.drone = d.name and s.id = d.session
where d.name > $1
order by d.name
limit $2`

// Drones gives a page of drones, by name, and where the next begins.
func (s *Store) Drones(ctx context.Context, r *messages.DronesRequest) (messages.DronesResponse, error) {
	list, err := read(ctx, s, func(row pgx.CollectableRow) (d messages.DroneInfo, err error) {
		err = row.Scan(&d.Drone, &d.Cluster, &d.Pool, &d.Session, &d.Runtime, &d.Version, &d.Ready, &d.NotReady, &d.Draining,
			&d.MaxBackends, &d.MaxMemoryBytes, &d.MaxCPUMillis, &d.Backends, &d.MemoryBytes, &d.CPUMillis, &d.HeardMSAgo, &d.Lost, &d.Full,
			&d.Spares)
		return d, err
	}, dronesSQL, r.After, r.Limit+1)
	resp := messages.DronesResponse{Drones: list}
	if len(list) > r.Limit {
		resp.Drones = list[:r.Limit]
		resp.Next = resp.Drones[r.Limit-1].Drone
	}
	return resp, wrap("list drones", err)
}
