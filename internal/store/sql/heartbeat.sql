-- Renews the lease of a session: $1 drone, $2 session, $3 ready, $4 the drone's time in ms, $5 to $7 its load, $8 how many
-- seconds a lease lives, $9 past when nothing counts as expired, $10 why the drone is not ready, $11 its spares. What has been sealed is renewed no more, nor what has expired,
-- for another may be deciding on it; nor what began in another home of the database, which may not know what is held. Nothing moves expires_at back (I1).
-- A drone sends a heartbeat again that nobody answers, and a worker that hung may take one late: what was said before what is known changes nothing else.
update session s
set expires_at = greatest(s.expires_at, now() + make_interval(secs => $8)), drone_time_ms = greatest(s.drone_time_ms, $4),
    (heard_at, ready, load_backends, load_memory_bytes, load_cpu_millis, refused, not_ready, spares) = (
        select now(), $3, $5, $6, $7, false, $10, $11 where $4 >= s.drone_time_ms
        union all
        select s.heard_at, s.ready, s.load_backends, s.load_memory_bytes, s.load_cpu_millis, s.refused, s.not_ready, s.spares where $4 < s.drone_time_ms)
from drone d
where s.drone = $1 and s.id = $2 and d.name = $1 and d.session = $2
  and s.sealed_at is null and (s.expires_at > now() or now() > $9 or not exists (select from settled))
  and s.home = (select h.id from here h)
returning d.draining, (select t.templates_revision from setting t)
