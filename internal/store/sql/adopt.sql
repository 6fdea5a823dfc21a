-- Makes the backends that a drone, $1, still runs, $3, those of its new session, $2, also where they are sealed: then the drone
-- is told, and only its word that it has killed it, or the lease's end, makes room for another (I1). $4: the sessions that it may take over.
with mine as materialized (
    select b.id
    from backend b
    where b.id = any($3::text[]) and b.drone = $1 and b.session = any($4::text[]) and b.status < 70
    order by b.id
    for no key update
)
update backend b
set session = $2,
    -- The sweep is to see whether the new session puts backends to sleep.
    due_at = case when b.sleep_after_seconds is not null then least(b.due_at, now() + make_interval(secs => b.sleep_after_seconds)) else b.due_at end
where b.id = any(array(select m.id from mine m))
