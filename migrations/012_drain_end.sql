-- A drone that drains may have an end: what it still runs then, the workers ask to end.

alter table drone add column drain_ends_at timestamptz;
create index drone_drain_ends on drone (drain_ends_at) where drain_ends_at is not null;

---- create above / drop below ----

drop index drone_drain_ends;
alter table drone drop column drain_ends_at;
