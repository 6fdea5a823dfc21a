-- Seals sessions of which the transaction has found, under their locks, that they have expired ($1 drones, $2 ids): a renewal that is
-- under way comes too late (I1).
update session s set sealed_at = now()
from unnest($1::text[], $2::text[]) as e (drone, id)
where s.drone = any($1::text[]) and s.drone = e.drone and s.id = e.id and s.sealed_at is null
