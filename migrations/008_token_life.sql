-- A token slides: used, it lives for as long again. So each knows for how long.

alter table token add column lifetime_seconds bigint not null default 3600;

---- create above / drop below ----

alter table token drop column lifetime_seconds;
