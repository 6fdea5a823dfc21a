-- A page of templates by name, those behind $1, or the one that is called $4, $2 at most, with what the drones that were heard within $3 seconds
-- say of their spares in all.
with page as materialized (
    select * from template t where t.name > $1 and ($4 = '' or t.name = $4) order by t.name limit $2
),
said as materialized (
    select e.template, sum(e.ready)::int8 as ready, sum(e.starting)::int8 as starting, sum(e.claims)::int8 as claims, sum(e.misses)::int8 as misses,
           coalesce(max(e.error), '') as error
    from drone d
    join session s on s.drone = d.name and s.id = d.session
    cross join lateral jsonb_to_recordset(s.spares) as e (template text, ready int8, starting int8, claims int8, misses int8, error text)
    where s.sealed_at is null and s.heard_at > now() - make_interval(secs => $3) and s.spares <> '[]'
    group by e.template
)
select p.name, p.cluster, p.pool, p.executable, p.lifetime_limit_seconds, p.max_idle_seconds, p.spares, p.claim_path, p.revision, p.changed_at,
       coalesce(s.ready, 0), coalesce(s.starting, 0), coalesce(s.claims, 0), coalesce(s.misses, 0), coalesce(s.error, '')
from page p
left join said s on s.template = p.name
order by p.name
