-- Who lists live backends walks those alone, by id, however many have ended. That ids are greater than ''
-- is said for the listing alone to use the index, as in backend_due.
--
-- It is made in a moment, for few of many rows are in it, and readers such as pg_dump do not hold it up. Made
-- concurrently it would wait for those who wait for their turn to migrate, and they for it.

create index backend_live_by_id on backend (id) where ended_at is null and id > '';

---- create above / drop below ----

drop index backend_live_by_id;
