-- Seals the keys of backends, $1: they are renewed no more with their sessions, and end when the lease does as it stands now. The
-- transaction has locked the sessions, $2 drones, $3 ids: so a renewal either comes before, or sees what is sealed, and what is theirs
-- now stays theirs; what another session has taken over meanwhile is left alone (I1).
with keys as materialized (
    select l.namespace, l.name, s.expires_at
    from backend b
    join session s on s.drone = b.drone and s.id = b.session
    join lease l on l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id
    where b.id = any($1::text[]) and l.released_at is null and l.sealed_until is null
      and (s.drone, s.id) in (select h.drone, h.id from unnest($2::text[], $3::text[]) as h (drone, id))
    order by l.namespace, l.name
    for no key update of l
)
update lease l set sealed_until = k.expires_at
from keys k
where l.namespace = k.namespace and l.name = k.name and l.released_at is null
