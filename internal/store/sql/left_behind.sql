-- Backends that sessions have left behind whose leases have expired, at most $2; $1: past when nothing counts as expired.
select b.id, b.drone
from session s
cross join lateral (
    select b.id, b.drone from backend b where b.drone = s.drone and b.session = s.id and b.ended_at is null limit $2
) b
where s.sealed_at is not null and s.expires_at <= now() and now() <= $1 and exists (select from settled)
limit $2
