-- What the spawns of backends, $1, that no drone has taken say of placing them again, and for how many ms they are on record.
select b.id, o.body, (extract(epoch from now() - o.created_at) * 1000)::int8
from backend b
cross join lateral (select o.body, o.created_at from outbox o where o.backend_id = b.id and o.kind = 'spawn' order by o.id limit 1) o
where b.id = any($1::text[])
