-- Locks the keys that backends, $1, hold, and says which of them are sealed and over, how often in a row their lives have failed, and for how many
-- seconds they are dormant afterwards; $2:
-- past when nothing counts as expired.
select l.backend_id, l.sealed_until is not null, coalesce(l.sealed_until <= now() and now() <= $2 and exists (select from settled), false),
       l.failures, coalesce(l.resume_seconds, 0)
from backend b
join lease l on l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id
where b.id = any($1::text[]) and l.released_at is null
order by l.namespace, l.name
for no key update of l
