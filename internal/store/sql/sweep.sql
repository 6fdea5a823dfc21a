-- Looks at the backends of which something may be due, at most $1. It is one walk along backend_due, as far as the present, and point
-- look-ups; what others look at is left to them. Where nothing is due, due_at moves on to when something may be; where
-- something is, it is put off by $5 seconds, so that no other worker does it too. $2: within how many seconds a backend is to be ready,
-- $3: a margin in seconds, $4: how far apart the words of a proxy may be, in seconds, $6: past when nothing is due, for the clock has
-- jumped, $7: how many seconds a lease lives.
with due as materialized (
    select b.id, b.namespace, b.name, b.drone, b.session, b.status, b.asked, b.termination_reason, b.created_at, b.changed_at, b.last_keepalive_at,
           b.lifetime_ends_at, make_interval(secs => b.max_idle_seconds) as max_idle, coalesce(b.asked_at, b.changed_at) as asked_at,
           make_interval(secs => b.sleep_after_seconds) as sleep_after, b.nap % 2 = 1 as asleep, greatest(b.changed_at, b.napped_at) as stirred_at
    from backend b
    where b.ended_at is null and b.due_at <= now() and b.due_at > '-infinity' and now() <= $6 and exists (select from settled)
    order by b.due_at
    limit $1
    for no key update skip locked
),
times as materialized (
    select d.id, d.drone, d.status, d.termination_reason,
           case when coalesce(l.held, false) then l.sealed_until else '-infinity' end as lease_ends,
           case when d.asked < 2 and d.status < 50 then d.created_at + make_interval(secs => $2) end as start_ends,
           -- The process has its grace from when it was told, if the drone said so.
           case when d.asked < 2 and d.status = 60 then d.changed_at
                when d.asked = 1 and d.status < 60 then d.asked_at
           end + make_interval(secs => $3 + coalesce(r.grace_ms, 0) / 1000.0) as grace_ends,
           case when l.sealed_until is not null then null
                when d.status = 65 then d.changed_at
                when d.asked = 2 then d.asked_at
           end + make_interval(secs => $3) as kill_ends,
           case when d.asked = 0 and d.status < 60 then d.lifetime_ends_at end as life_ends,
           case when d.asked > 0 or d.status >= 60 or d.max_idle is null then null
                -- Nobody can be connected to it yet, and what ends a start is its own bound.
                when d.status < 50 or c.connected then now() + d.max_idle
                when c.seen_at is null and d.last_keepalive_at <= d.created_at then d.changed_at + d.max_idle
                else greatest(d.changed_at + d.max_idle, greatest(d.last_keepalive_at, c.seen_at) + greatest(d.max_idle, make_interval(secs => $4)))
           end as idle_ends,
           -- By the same rules, but that bytes may matter instead of connections; and who was woken is awake for as long, too.
           case when d.asked > 0 or d.status >= 60 or d.asleep or n.sleeps is not true then null
                when d.status < 50 then now() + d.sleep_after
                when c.passing then now() + greatest(d.sleep_after, make_interval(secs => $4))
                when c.bytes_at is null and d.last_keepalive_at <= d.created_at then d.stirred_at + d.sleep_after
                else greatest(d.stirred_at + d.sleep_after, greatest(d.last_keepalive_at, c.bytes_at) + greatest(d.sleep_after, make_interval(secs => $4)))
           end as wake_ends
    from due d
    left join lateral (
        select l.backend_id = d.id as held, l.sealed_until
        from lease l
        where l.namespace = d.namespace and l.name = d.name and l.released_at is null
        offset 0
    ) l on true
    -- A proxy that has somebody connected names the backend with each of its words; while it is silent, the last one
    -- holds, for as long as a lease lives.
    cross join lateral (
        select max(c.seen_at) as seen_at,
               coalesce(bool_or(p.heard_at > now() - make_interval(secs => $7) and c.seen_at > p.heard_at - make_interval(secs => $4)), false) as connected,
               max(coalesce(c.bytes_at, c.seen_at)) as bytes_at,
               coalesce(bool_or(p.heard_at > now() - make_interval(secs => $7) and coalesce(c.bytes_at, c.seen_at) > p.heard_at - make_interval(secs => $4)), false) as passing
        from connection c join proxy p on p.name = c.proxy
        where c.backend_id = d.id
    ) c
    left join lateral (select r.grace_ms from drone r where r.name = d.drone offset 0) r on true
    left join lateral (select s.sleeps from session s where s.drone = d.drone and s.id = d.session and d.sleep_after is not null offset 0) n on true
),
looked as materialized (
    select t.*, case
        when lease_ends <= now() then 'lost'
        when start_ends <= now() then 'startup-timeout'
        when grace_ends <= now() then 'grace-over'
        when kill_ends <= now() then 'stuck'
        when life_ends <= now() then 'lifetime'
        when idle_ends <= now() then 'idle'
        when wake_ends <= now() then 'asleep'
        else '' end as cause
    from times t
),
moved as (
    update backend b
    set due_at = (
        select case when k.cause = '' then coalesce(least(k.lease_ends, k.start_ends, k.grace_ends, k.kill_ends, k.life_ends, k.idle_ends, k.wake_ends), 'infinity')
                    else now() + make_interval(secs => $5) end
        from looked k where k.id = b.id)
    where b.id = any(array(select k.id from looked k))
)
select k.id, k.drone, k.cause, case k.cause
    when 'startup-timeout' then 'startup-timeout'
    when 'lifetime' then 'swept'
    when 'idle' then 'swept'
    -- The reason is that of who asked softly: the drone stated it, or its action still says it.
    when 'grace-over' then coalesce(nullif(k.termination_reason, ''), (
        select min(o.body::json ->> 'reason') from outbox o where o.backend_id = k.id and o.kind = 'terminate'), '')
    else '' end, now()
from looked k
