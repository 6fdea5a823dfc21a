-- The drones that may be given a backend now, unless they are full; $1: how many seconds ago one was heard that is heard. Numbers are
-- those of the last heartbeat: nothing is counted here.
select d.name, d.session, d.cluster, d.pool, d.max_backends, d.max_memory_bytes, d.max_cpu_millis,
       s.load_memory_bytes, s.load_cpu_millis, s.refused, s.load_backends,
       (extract(epoch from s.heard_at) * 1000000)::int8 as said_at,
       nullif(s.spares, '[]') as spares
from drone d
join session s on s.drone = d.name and s.id = d.session
where s.sealed_at is null and s.ready and not d.draining and s.heard_at > now() - make_interval(secs => $1)
