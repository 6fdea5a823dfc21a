-- Forgets a drone, $1, that is lost and of which nothing is left that has not ended, as retention does later; $2: the type of the event.
-- Its sessions stay until nothing needs them. Of a drone that it leaves it says how many backends are left, and whether it is lost.
with gone as (
    delete from drone d
    where d.name = $1 and d.lost_at is not null
      and not exists (select from backend b where b.drone = d.name and b.ended_at is null offset 0)
    returning d.name, d.session, d.cluster, d.pool
),
published as (
    insert into outbox (id, kind, backend_id, drone, body)
    select n.id, 'drone', n.name, n.name,
           json_build_object('type', n.type, 'id', n.name || '.' || n.session || '.' || n.id, 'drone', n.name,
                             'session', n.session, 'cluster', n.cluster, 'pool', n.pool)::text
    from (select nextval('outbox_id') as id, $2::text as type, g.* from gone g offset 0) n
    returning id, body, created_at
)
select d.lost_at is not null, (select count(*) from backend b where b.drone = d.name and b.ended_at is null),
       coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from drone d left join published p on true
where d.name = $1
