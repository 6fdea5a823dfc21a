-- Who lists live backends walks those alone, by id, however many have ended. That ids are greater than ''
-- is said for the listing alone to use the index, as in backend_due.

---- tern: disable-tx ----
drop index concurrently if exists backend_live_by_id;
create index concurrently backend_live_by_id on backend (id) where ended_at is null and id > '';

---- create above / drop below ----

drop index backend_live_by_id;
