-- Has a session, $2 of drone $1, count as full until its next heartbeat.
update session set refused = true where drone = $1 and id = $2 and not refused
