-- Leaves of spawns that nobody may take any more, of backends $1, the state that they stand for, which perhaps nobody has
-- published yet (I5).
update outbox o set kind = 'state', until_status = null, body = ''
where o.backend_id = any($1::text[]) and o.kind = 'spawn'
returning o.id, o.kind, o.backend_id, o.drone, o.status, o.last_status, o.body, 0::int8, '',
    coalesce((select b.resumes from backend b where b.id = o.backend_id), ''), o.drone_time_ms, o.traceparent, o.nap, o.created_at
