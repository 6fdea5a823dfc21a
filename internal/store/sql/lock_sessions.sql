-- Locks the sessions that hold backends, $1, and says which of them are over; $2: past when nothing counts as expired.
select s.drone, s.id, s.sealed_at is not null, s.expires_at <= now() and now() <= $2 and exists (select from settled)
from session s
where (s.drone, s.id) in (select b.drone, b.session from backend b where b.id = any($1::text[]))
order by s.drone, s.id
for no key update
