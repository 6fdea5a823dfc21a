-- Which backends of $1 sleep while somebody is connected, and bytes pass if that matters: by the rule of the sweep, $2 seconds after the last word of a proxy, which counts
-- for $3 seconds.
select b.id
from unnest($1::text[]) as w (id)
cross join lateral (select b.id, b.nap from backend b where b.id = w.id offset 0) b
where b.nap % 2 = 1
  and exists (
      select from connection c join proxy p on p.name = c.proxy
      where c.backend_id = b.id and p.heard_at > now() - make_interval(secs => $3) and coalesce(c.bytes_at, c.seen_at) > p.heard_at - make_interval(secs => $2)
      offset 0)
