-- A backend that ignores idle connections sleeps though they are open, when no byte passes over them.

-- When a byte last passed over those of this proxy, as far as it has said; null: it counts as passing for as long as they are open.
alter table connection add column bytes_at timestamptz;

---- create above / drop below ----

alter table connection drop column bytes_at;
