-- Notes that somebody joins backends, $1, of which nobody has asked the end: a sweep that wants to end one as idle sees it. The time is
-- that once the row is locked: it comes after that of a sweep that had the row before.
with woken as materialized (
    select b.id from backend b where b.id = any($1::text[]) and b.status < 60 and b.asked = 0 order by b.id for no key update
)
update backend b set last_keepalive_at = clock_timestamp()
where b.id = any(array(select w.id from woken w))
