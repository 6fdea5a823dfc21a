-- In what a drone, $1, and this database differ about what the drone's session, $4, holds, of which it names $2. It names backends that are
-- not the session's; and it does not name some that it should: of the sessions $3, its machine's earlier ones, all; of its own, those
-- that it said it had, unless that has changed within the $5 seconds that a request may take.
-- A full join is made by hashing or by merging, whatever the planner thinks of the tables: no row is compared with each name.
select coalesce(n.id, b.id), n.id is not null as named, coalesce(b.session, '')
from unnest($2::text[]) n (id)
full join (
    select id, session, status, changed_at from backend where drone = $1 and ended_at is null
) b on b.id = n.id
where n.id is not null and b.session is distinct from $4
   or n.id is null and (b.session = any($3::text[])
                        or b.session = $4 and b.status > 10 and b.changed_at < now() - make_interval(secs => $5))
