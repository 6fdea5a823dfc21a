-- Begins a session or renews it: $1 drone, $2 session, $3 machine id, $4 boot id, $5 the drone's time in ms, $6 how many seconds a
-- lease lives, $7: its drone puts backends to sleep. A new one is not ready before its first heartbeat.
insert into session as s (drone, id, machine_id, boot_id, expires_at, home, drone_time_ms, sleeps, due_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $6), coalesce((select h.id from here h), ''), $5, $7,
        now() + make_interval(secs => $6))
on conflict (drone, id) do update set
    expires_at = greatest(s.expires_at, excluded.expires_at), heard_at = now(),
    drone_time_ms = greatest(s.drone_time_ms, excluded.drone_time_ms), sleeps = excluded.sleeps
