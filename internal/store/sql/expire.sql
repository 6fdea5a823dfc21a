-- Seals the sessions whose leases have expired, at most $2, says which of their drones are lost, and writes the events. $1: past when
-- nothing counts as expired. It walks along an index as far as the present, and puts the others off until they may expire.
with due as materialized (
    select s.drone, s.id, s.expires_at <= now() and now() <= $1 and exists (select from settled) as expired
    from session s
    where s.sealed_at is null and s.due_at <= now() and s.due_at > '-infinity'
    order by s.due_at
    limit $2
    for no key update skip locked
),
alive as (
    update session s set due_at = greatest(s.expires_at, now())
    where (s.drone, s.id) in (select u.drone, u.id from due u where not u.expired)
),
sealed as (
    update session s set sealed_at = now()
    where (s.drone, s.id) in (select u.drone, u.id from due u where u.expired)
    returning s.drone, s.id
),
lost as (
    update drone d set lost_at = now()
    where (d.name, d.session) in (select k.drone, k.id from sealed k)
    returning d.name, d.session, d.cluster, d.pool
),
published as (
    insert into outbox (id, kind, backend_id, drone, body)
    select n.id, 'drone', n.name, n.name,
           json_build_object('type', n.type, 'id', n.name || '.' || n.session || '.' || n.id, 'drone', n.name,
                             'session', n.session, 'cluster', n.cluster, 'pool', n.pool)::text
    from (select nextval('outbox_id') as id, $3::text as type, l.* from lost l offset 0) n
    returning id, drone, body, created_at
)
select u.drone, coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from due u left join published p on p.drone = u.drone
