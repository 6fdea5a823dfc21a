-- Notes what a proxy, $1, says of backends, $2: for how many milliseconds nobody has been connected to each, $3; 0: somebody is. $5: for how many milliseconds no byte
-- has passed between those who are and it; 0: that does not matter, or one has. $4: it speaks of some only, so of the others this says nothing, and the proxy counts as heard when it last spoke of all.
with heard as (
    insert into proxy as p (name, heard_at) values ($1, now())
    on conflict (name) do update set heard_at = case when $4 then p.heard_at else excluded.heard_at end
    returning name
),
-- Two words of one proxy take turns.
said as materialized (
    select s.id, min(s.idle) as idle, min(s.silent) as silent from heard, unnest($2::text[], $3::int8[], $5::int8[]) as s (id, idle, silent) group by s.id
),
here as (
    insert into connection as c (backend_id, proxy, seen_at, bytes_at)
    select s.id, $1, now(), case when s.silent > 0 then now() - make_interval(secs => s.silent / 1000.0) end
    from said s
    where s.idle = 0 and exists (select from backend b where b.id = s.id and b.status < 70 offset 0)
    order by s.id
    on conflict (backend_id, proxy) do update set seen_at = excluded.seen_at, bytes_at = excluded.bytes_at
),
gone as (
    delete from connection c
    where c.backend_id = any(array(select s.id from said s where s.idle > 0)) and c.proxy = $1
),
-- Another proxy may know of a later one.
left_behind as materialized (
    select b.id from backend b
    where b.id = any(array(select s.id from said s where s.idle > 0)) and b.status < 70
    order by b.id
    for no key update
)
update backend b
set last_keepalive_at = greatest(b.last_keepalive_at, now() - make_interval(secs => s.idle / 1000.0))
from said s
where b.id = any(array(select l.id from left_behind l)) and s.id = b.id
