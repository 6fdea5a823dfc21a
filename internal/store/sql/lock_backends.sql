-- Locks backends, $1, and reads them; the number of ms is for how long each has been in its status.
select b.id, b.cluster, b.pool, b.drone, b.session, b.asked, b.status, b.address, b.last_status,
       b.termination_kind, b.termination_reason, b.message, b.exit_code, b.termination_cause, b.termination_by,
       b.termination_why, b.last_keepalive_at, b.fencing_token, (extract(epoch from now() - b.changed_at) * 1000)::int8,
       b.nap, b.reclaimed_bytes
from backend b
where b.id = any($1::text[])
order by b.id
for no key update
