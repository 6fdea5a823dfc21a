-- Deletes sessions that are over and hold nothing any more, and are no drone's last one; at most $1. A statement that was under way
-- when one was sealed has ended by now.
delete from session where ctid = any(array(
    select s.ctid
    from session s
    where s.sealed_at < now() - interval '1 minute' and s.expires_at < now() - interval '1 minute'
      and not exists (select from backend b where b.drone = s.drone and b.session = s.id and b.ended_at is null offset 0)
      and not exists (select from drone d where d.name = s.drone and d.session = s.id offset 0)
    limit $1
    for update skip locked
))
