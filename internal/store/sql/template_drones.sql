-- What the drones that were heard within $2 seconds say of their spares of a template, $1: $3 at most, those with an error first.
select d.name, e.revision, e.ready, e.starting, e.claims, e.misses, coalesce(e.error, '')
from drone d
join session s on s.drone = d.name and s.id = d.session
cross join lateral jsonb_to_recordset(s.spares) as e (template text, revision int8, ready int, starting int, claims int8, misses int8, error text)
where s.sealed_at is null and s.heard_at > now() - make_interval(secs => $2) and s.spares <> '[]' and e.template = $1
order by coalesce(e.error, '') = '', d.name
limit $3
