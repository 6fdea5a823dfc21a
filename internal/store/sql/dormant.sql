-- What dormant keys are started with: of the arrays, $1 and $2 have an entry for each key.
select w.ix, d.backend_id, d.tag, d.config
from unnest($1::text[], $2::text[]) with ordinality as w (namespace, name, ix)
cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
cross join lateral (select * from dormant d where d.namespace = w.namespace and d.name = w.name and d.backend_id = l.backend_id offset 0) d
where l.released_at is not null and l.dormant_until > now()
