-- The drones by cluster, pool and state, what they have and what they take at most: the first state that holds of a drone. $1: how
-- many seconds ago one was heard that is heard; $2: how the word of one begins whose agent was stopped.
with drones as (
    select d.cluster, d.pool, d.max_backends, d.max_memory_bytes, d.max_cpu_millis,
           coalesce(s.load_backends, 0) as load_backends, coalesce(s.load_memory_bytes, 0) as load_memory_bytes, coalesce(s.load_cpu_millis, 0) as load_cpu_millis,
           coalesce(extract(epoch from now() - s.heard_at), 0)::float8 as heard_ago,
           coalesce(starts_with(s.not_ready, $2), false) as stopped,
           case when s.id is null or d.lost_at is not null or s.sealed_at is not null then 'lost'
                when s.heard_at <= now() - make_interval(secs => $1) then 'silent'
                when d.draining then 'draining'
                when not s.ready then 'not-ready'
                when s.refused
                     or d.max_backends > 0 and s.load_backends >= d.max_backends
                     or d.max_memory_bytes > 0 and s.load_memory_bytes >= d.max_memory_bytes
                     or d.max_cpu_millis > 0 and s.load_cpu_millis >= d.max_cpu_millis then 'full'
                else 'ready' end as state
    from drone d
    left join session s on s.drone = d.name and s.id = d.session
)
select cluster, pool, state, count(*), min(heard_ago),
       sum(load_backends)::int8, sum(load_memory_bytes)::int8, sum(load_cpu_millis)::int8,
       sum(max_backends)::int8, sum(max_memory_bytes)::int8, sum(max_cpu_millis)::int8,
       count(*) filter (where max_backends > 0), count(*) filter (where max_memory_bytes > 0), count(*) filter (where max_cpu_millis > 0),
       count(*) filter (where stopped)
from drones
group by cluster, pool, state
