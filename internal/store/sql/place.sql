-- Places backends, which the transaction has locked with their keys, on other drones: those that still qualify, in the sessions
-- that were picked. The key goes with its backend: it is held from now on while the new session's lease lives. The spawn's
-- row becomes that of the new drone; the old one's, should somebody have it in hand, finds nobody who would take it (I1). It goes on
-- standing for the state "scheduled", which perhaps nobody has published yet (I5). $5: how many seconds ago one was heard that is heard.
with input as materialized (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as i (id, drone, session, body)
),
placed as (
    update backend b
    set drone = d.name, session = d.session
    from input i
    cross join lateral (select * from drone d where d.name = i.drone and d.session = i.session offset 0) d
    cross join lateral (select * from session s where s.drone = i.drone and s.id = i.session offset 0) s
    where b.id = any($1::text[]) and b.id = i.id and exists (select from settled)
      and s.sealed_at is null and s.ready and not d.draining and s.heard_at > now() - make_interval(secs => $5)
      and not s.refused
      and (d.max_backends = 0 or s.load_backends < d.max_backends)
      and (d.max_memory_bytes = 0 or s.load_memory_bytes < d.max_memory_bytes)
      and (d.max_cpu_millis = 0 or s.load_cpu_millis < d.max_cpu_millis)
    returning b.id, b.drone, b.fencing_token, b.sealed_token, b.resumes, s.drone_time_ms, i.body
)
update outbox o
set id = nextval('outbox_id'), drone = p.drone, drone_time_ms = p.drone_time_ms, body = p.body,
    attempts = 0, due_at = now() + interval '5 seconds'
from placed p
where o.backend_id = any(array(select p.id from placed p)) and o.backend_id = p.id and o.kind = 'spawn'
returning o.id, o.kind, o.backend_id, o.drone, o.status, o.last_status, o.body, p.fencing_token, p.sealed_token, p.resumes, o.drone_time_ms, o.traceparent, o.nap, o.created_at
