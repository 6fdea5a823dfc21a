-- Renews the lease of a session: $1 drone, $2 session, $3 ready, $4 the drone's time in ms, $5 to $7 its load, $8 how many
-- seconds a lease lives, $9 past when nothing counts as expired, $10 why the drone is not ready, $11 its spares. What has been sealed is renewed no more, nor what has expired,
-- for another may be deciding on it; nor what began in another home of the database, which may not know what is held. Nothing moves expires_at back (I1).
update session s
set expires_at = greatest(s.expires_at, now() + make_interval(secs => $8)), heard_at = now(),
    drone_time_ms = greatest(s.drone_time_ms, $4), ready = $3, load_backends = $5, load_memory_bytes = $6,
    load_cpu_millis = $7, refused = false, not_ready = $10, spares = $11
from drone d
where s.drone = $1 and s.id = $2 and d.name = $1 and d.session = $2
  and s.sealed_at is null and (s.expires_at > now() or now() > $9 or not exists (select from settled))
  and s.home = (select h.id from here h)
returning d.draining, (select t.templates_revision from setting t)
