-- Which backends of $1 are in a session that puts backends to sleep.
select b.id
from unnest($1::text[]) as w (id)
cross join lateral (select b.id, b.drone, b.session from backend b where b.id = w.id offset 0) b
cross join lateral (select s.sleeps from session s where s.drone = b.drone and s.id = b.session offset 0) s
where s.sleeps
