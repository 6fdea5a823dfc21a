-- Locks the sessions that hold backends, $1, and says which of them are over; $2: past when nothing counts as expired. For people: when
-- it was heard, whether it began in this home of the database, and whether its drone has another session now.
select s.drone, s.id, s.sealed_at is not null, s.expires_at <= now() and now() <= $2 and exists (select from settled), s.heard_at,
       exists (select from here h where h.id = s.home), coalesce((select d.session from drone d where d.name = s.drone), s.id) <> s.id
from session s
where (s.drone, s.id) in (select b.drone, b.session from backend b where b.id = any($1::text[]))
order by s.drone, s.id
for no key update
