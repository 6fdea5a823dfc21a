-- Has a session, $2 of drone $1, count as full until its next heartbeat, if it had not taken one of the backends $3. It comes
-- before what locks them.
update session set refused = true
where drone = $1 and id = $2 and not refused
  and exists (select from backend b where b.id = any($3::text[]) and b.status = 10 offset 0)
