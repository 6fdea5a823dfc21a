-- Gives back the keys of backends, $1, which the transaction has locked. The rows stay: the next fencing token of a key is greater
-- than the last (I2).
update lease l
set released_at = now()
from backend b
where b.id = any($1::text[]) and l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id and l.released_at is null
