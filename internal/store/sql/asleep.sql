-- Which backends of $1 are asleep.
select b.id
from unnest($1::text[]) as w (id)
cross join lateral (select b.id, b.nap from backend b where b.id = w.id offset 0) b
where b.nap % 2 = 1
