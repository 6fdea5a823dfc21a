-- The sessions of a drone, $1, locked; $2: how many seconds ago one was heard that is heard; $3: past when nothing counts as expired,
-- and nobody knows how long ago anything was.
select s.id, s.machine_id, s.boot_id, s.sealed_at is not null, s.expires_at <= now() and now() <= $3 and exists (select from settled),
       s.heard_at > now() - make_interval(secs => $2) or now() > $3 or not exists (select from settled),
       s.home = coalesce((select h.id from here h), ''),
       extract(epoch from now() - s.heard_at)::float8, extract(epoch from s.expires_at - now())::float8
from session s
where s.drone = $1
order by s.id
for no key update
