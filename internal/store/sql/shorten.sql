-- Ends leases no later than when no drone can trust in them any more, $1 seconds from now: the clock has stepped back since they were written.
-- It is the one statement that moves expires_at back, and only to where a renewal would put it now: that is no earlier than a drone's
-- deadline, which it counts by its own clock (I1). $2: a margin in seconds.
with far as materialized (
    select s.drone, s.id
    from session s
    where s.expires_at > now() + make_interval(secs => $1::float8 + $2::float8) or s.heard_at > now() + make_interval(secs => $2::float8)
    order by s.drone, s.id
    for no key update
),
sealed as (
    update lease l set sealed_until = now() + make_interval(secs => $1::float8)
    where l.sealed_until > now() + make_interval(secs => $1::float8 + $2::float8) and l.released_at is null
),
-- What is to be published again is, at once.
published as (
    update outbox o set due_at = now() where o.due_at > now() + interval '2 minutes'
)
update session s
set expires_at = least(s.expires_at, now() + make_interval(secs => $1::float8)), heard_at = least(s.heard_at, now()),
    due_at = least(s.due_at, now() + make_interval(secs => $1::float8))
where (s.drone, s.id) in (select f.drone, f.id from far f)
