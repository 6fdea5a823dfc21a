-- The templates of these names, $1.
select t.name, t.cluster, t.pool, t.executable, t.lifetime_limit_seconds, t.max_idle_seconds, t.spares, t.claim_path, t.revision
from template t
where t.name = any($1::text[])
