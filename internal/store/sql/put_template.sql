-- Puts a template where the transaction has locked the counter: $1 name, $2 cluster, $3 pool, $4 executable, $5 and $6 its limits, $7 spares, $8 claim
-- path, $9 the revision that it must have now (0: any, or none), $10 how many templates there may be, $11 how many of one pool may keep
-- spares, $12 how many bytes their executables may have together, $13 how many those of all.
--
-- A revision is greater than all before, also after a restore of a dump and a failover that lost commits: a drone that has spares of a
-- revision has them of this template and no other.
with was as materialized (
    select * from template t where t.name = $1
),
others as materialized (
    select count(*) as all_of_them, coalesce(sum(octet_length(t.executable)), 0) as all_bytes,
           count(*) filter (where t.spares > 0 and t.cluster = $2 and t.pool = $3) as with_spares,
           coalesce(sum(octet_length(t.executable)) filter (where t.spares > 0 and t.cluster = $2 and t.pool = $3), 0) as bytes
    from template t
    where t.name <> $1
),
verdict as materialized (
    select case when $9::int8 > 0 and not exists (select from was w where w.revision = $9) then 'changed'
                when exists (select from was w where (w.cluster, w.pool, w.executable, w.spares, w.claim_path) = ($2, $3, $4, $7, $8)
                             and w.lifetime_limit_seconds is not distinct from $5 and w.max_idle_seconds is not distinct from $6) then 'same'
                when o.all_of_them >= $10 then 'too many'
                when o.all_bytes + octet_length($4) > $13 then 'too large in all'
                when $7 > 0 and o.with_spares >= $11 then 'too many with spares'
                when $7 > 0 and o.bytes + octet_length($4) > $12 then 'too large'
                else 'put' end as word
    from others o
),
counted as (
    update setting s
    set templates_revision = greatest(s.templates_revision + 1, (extract(epoch from now()) * 1000)::int8)
    from verdict v
    where v.word = 'put'
    returning s.templates_revision
),
written as (
    insert into template as t (name, cluster, pool, executable, lifetime_limit_seconds, max_idle_seconds, spares, claim_path, revision)
    select $1, $2, $3, $4, $5, $6, $7, $8, c.templates_revision from counted c
    on conflict (name) do update set
        cluster = excluded.cluster, pool = excluded.pool, executable = excluded.executable,
        lifetime_limit_seconds = excluded.lifetime_limit_seconds, max_idle_seconds = excluded.max_idle_seconds,
        spares = excluded.spares, claim_path = excluded.claim_path, revision = excluded.revision, changed_at = now()
    returning t.revision
)
select v.word, coalesce((select w.revision from written w), (select w.revision from was w), 0), coalesce((select w.revision from was w), 0),
       (select count(*) from drone d where d.cluster = $2 and d.pool = $3 and d.lost_at is null)
from verdict v
