-- Takes actions off the record whose goal their backends have reached: of backends, $1, those up to the status in $2.
delete from outbox o
using unnest($1::text[], $2::int2[]) as t (id, status)
where o.backend_id = any($1::text[]) and o.backend_id = t.id and o.until_status <= t.status
