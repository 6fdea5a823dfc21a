-- States of backends, $1, that were committed but perhaps not published by whoever committed them.
select o.id, o.kind, o.backend_id, o.drone, o.status, o.last_status, o.body,
       coalesce((select b.fencing_token from backend b where b.id = o.backend_id), 0),
       '' as sealed_token, '' as resumes,
       o.drone_time_ms, o.traceparent, o.nap, o.created_at
from outbox o
where o.backend_id = any($1::text[]) and o.until_status is null
order by o.id
