-- Which of the backends $3 a session ($1 drone, $2 id) holds.
select b.id from backend b where b.id = any($3::text[]) and b.drone = $1 and b.session = $2 and b.status < 70
