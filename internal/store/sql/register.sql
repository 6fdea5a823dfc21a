-- Makes a drone what it says that it is.
insert into drone as d (name, cluster, pool, session, runtime, version, max_backends, grace_ms, max_memory_bytes, max_cpu_millis)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (name) do update set
    cluster = excluded.cluster, pool = excluded.pool, runtime = excluded.runtime, version = excluded.version,
    max_backends = excluded.max_backends, grace_ms = excluded.grace_ms,
    max_memory_bytes = excluded.max_memory_bytes, max_cpu_millis = excluded.max_cpu_millis, lost_at = null,
    registered_at = case when d.session = excluded.session then d.registered_at else now() end,
    session = excluded.session
