-- Takes actions off the record whose goal their backends have reached: of backends, $1, those up to the status in $2, and the naps up to that in $3.
delete from outbox o
using unnest($1::text[], $2::int2[], $3::int8[]) as t (id, status, nap)
where o.backend_id = any($1::text[]) and o.backend_id = t.id and (o.until_status <= t.status or o.kind = 'nap' and o.nap <= t.nap)
