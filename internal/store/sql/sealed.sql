-- The backends of a session ($1 drone, $2 id) that are not renewed with it. It comes after the statement that locked the session: who
-- seals a key locks the session first, so either it is seen here, or it goes by the lease as it was renewed (I1).
select l.backend_id
from lease l
join backend b on b.id = l.backend_id
where l.sealed_until is not null and l.released_at is null and b.drone = $1 and b.session = $2
order by l.backend_id
