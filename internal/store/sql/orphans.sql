-- The backends of a drone, $1, that it does not name, $2, although it should: of the sessions $3, its machine's earlier ones, all; of its
-- own, $4, those that it said it had, unless that has changed within the $5 seconds that a request may take.
select b.id, b.session
from backend b
where b.drone = $1 and b.ended_at is null
  and b.id not in (select unnest($2::text[])) -- by a hash: "any" would compare each with each
  and (b.session = any($3::text[])
       or b.session = $4 and b.status > 10 and b.changed_at < now() - make_interval(secs => $5))
