-- Seals the keys of backends, $1: they are renewed no more with their sessions, and end when the lease does as it stands now. The
-- sessions are locked first, so that a renewal either comes before, or sees what is sealed (I1).
with held as materialized (
    select s.drone, s.id, s.expires_at
    from session s
    where (s.drone, s.id) in (select b.drone, b.session from backend b where b.id = any($1::text[]))
    order by s.drone, s.id
    for no key update
),
keys as materialized (
    select l.namespace, l.name, h.expires_at
    from backend b
    join held h on h.drone = b.drone and h.id = b.session
    join lease l on l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id
    where b.id = any($1::text[]) and l.released_at is null and l.sealed_until is null
    order by l.namespace, l.name
    for no key update of l
)
update lease l set sealed_until = k.expires_at
from keys k
where l.namespace = k.namespace and l.name = k.name and l.released_at is null
