-- A released key is kept for as long as it is dormant, and then for as long as others are: retention walks along lease_over (greatest ignores
-- null). Who lists keys walks along lease_told, which holds those of which there is
-- something to tell: that names are greater than '' is said for the listing alone to use it, as in backend_live_by_id.

---- tern: disable-tx ----
drop index concurrently if exists lease_over;
create index concurrently lease_over on lease (greatest(released_at, dormant_until)) where released_at is not null;
drop index concurrently if exists lease_told;
create index concurrently lease_told on lease (namespace, name) where name > '' and (released_at is null or dormant_until > '-infinity' or retry_at > '-infinity');
drop index concurrently if exists lease_released;

---- create above / drop below ----

create index lease_released on lease (released_at) where released_at is not null;
drop index lease_told;
drop index lease_over;
