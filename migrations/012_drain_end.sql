-- A drone that drains may have an end: what it still runs then, the workers ask to end.

alter table drone add column drain_ends_at timestamptz;

---- create above / drop below ----

alter table drone drop column drain_ends_at;
