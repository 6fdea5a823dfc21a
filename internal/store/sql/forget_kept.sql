-- Forgets what was kept of keys whose last holders are backends, $1: they are not dormant any more, nor will they be once these have ended.
with forgotten as (
    update lease l set resume_seconds = null, dormant_until = null
    from unnest($1::text[]) as i (id)
    cross join lateral (select * from backend b where b.id = i.id offset 0) b
    where l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id and l.resume_seconds is not null
    returning l.namespace, l.name, l.backend_id
)
delete from dormant d
using forgotten f
where d.namespace = f.namespace and d.name = f.name and d.backend_id = f.backend_id
