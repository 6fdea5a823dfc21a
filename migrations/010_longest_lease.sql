-- A lease that was given before the time to live was lowered lives for longer than those that are given now. Whoever waits until no
-- lease of before can live any more waits that long: longest_ttl_ms, 0 once none of them can live.

alter table setting add column longest_ttl_ms bigint not null default 0;

---- create above / drop below ----

alter table setting drop column longest_ttl_ms;
