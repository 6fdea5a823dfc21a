-- Joins who holds keys, unless it has been idle, which is to be written first (visit.sql): of the arrays, $1 and $2 have an entry for each key, in the order of keys, $3 to $9 one for each
-- token that may be written. The database's clock says whether who was given a key, and has not
-- released it, still holds it, unless it cannot be trusted now: past $10, and while the database is not settled, nothing counts as expired.
with given as materialized (
    select w.ix, l.tag, l.backend_id, b.status, b.cluster, b.subdomain, b.origin,
           -- Workers of an earlier build store it as it is.
           coalesce(nullif(b.sealed_token, ''), b.static_token) as static_token,
           -- A backend that is leaving, or was asked to, gets no visitors any more.
           b.status >= 60 or b.asked > 0 as leaving,
           -- A join writes that somebody is there at most once in a quarter of the time after which nobody's being there has consequences.
           coalesce(b.last_keepalive_at < now() - make_interval(secs => least(b.max_idle_seconds, b.sleep_after_seconds)) / 4, false) as idle,
           b.nap % 2 = 1 as asleep,
           coalesce(l.sealed_until, s.expires_at, '-infinity') as expires_at,
           coalesce(l.sealed_until, s.expires_at, '-infinity') > now() or now() > $10 or not exists (select from settled) as alive
    from unnest($1::text[], $2::text[]) with ordinality as w (namespace, name, ix)
    cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
    cross join lateral (select * from backend b where b.id = l.backend_id offset 0) b
    left join lateral (select s.expires_at from session s where s.drone = b.drone and s.id = b.session offset 0) s on true
    where l.released_at is null
),
tokens as (
    insert into token (hash, backend_id, username, auth, secret, expires_at, lifetime_seconds)
    select t.hash, g.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => t.life), t.life
    from unnest($3::int8[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::int8[])
         as t (ix, tag, hash, username, auth, secret, life)
    join given g on g.ix = t.ix and g.tag = t.tag
    where g.alive and not g.leaving and not g.idle and g.static_token = ''
)
select ix, backend_id, tag, status, leaving, idle, asleep, alive, cluster, subdomain, origin, static_token,
       least(greatest(extract(epoch from expires_at - now()), 0), 86400)::float8 as expires_in
from given
union all
-- The number 0: the database is not settled, and may not know of a key that somebody holds it.
select 0, '', '', 0, false, false, false, false, '', '', false, '', 0
where not exists (select from settled)
