-- The templates that a drone, $1, in its session, $2, is to keep spares of, and the counter of all: one row without a template where there are
-- none, and no row where the session is not the drone's.
select s.templates_revision, t.name, t.cluster, t.pool, t.executable, t.lifetime_limit_seconds, t.max_idle_seconds, t.spares, t.claim_path, t.revision
from drone d
cross join setting s
left join template t on t.cluster = d.cluster and t.pool = d.pool and t.spares > 0
where d.name = $1 and d.session = $2
order by t.name
