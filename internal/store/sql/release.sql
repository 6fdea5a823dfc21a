-- Gives back the keys of backends, $1, which the transaction has locked. The rows stay: the next fencing token of a key is greater
-- than the last (I2). One that is to outlive its backend is dormant from now on. $2 is how often in a row the key's lives have failed, $3 for how many seconds it rests for that, 0: not at all, and $4
-- how the last one ended; null: as before.
update lease l
set released_at = now(), failures = i.failures,
    retry_at = case when i.rest > 0 then now() + make_interval(secs => i.rest) end,
    last_words = coalesce(i.last_words, l.last_words),
    dormant_until = now() + make_interval(secs => l.resume_seconds)
from backend b
join unnest($1::text[], $2::int4[], $3::int4[], $4::text[]) as i (id, failures, rest, last_words) on i.id = b.id
where b.id = any($1::text[]) and l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id and l.released_at is null
