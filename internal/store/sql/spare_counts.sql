-- What the drones that were heard within $1 seconds say of their spares, by template; also those of which nobody says anything.
select t.name, coalesce(sum(e.ready), 0)::int8, coalesce(sum(e.starting), 0)::int8, coalesce(sum(e.claims), 0)::int8, coalesce(sum(e.misses), 0)::int8
from template t
left join (
    select e.*
    from drone d
    join session s on s.drone = d.name and s.id = d.session
    cross join lateral jsonb_to_recordset(s.spares) as e (template text, ready int8, starting int8, claims int8, misses int8)
    where s.sealed_at is null and s.heard_at > now() - make_interval(secs => $1) and s.spares <> '[]'
) e on e.template = t.name
group by t.name
