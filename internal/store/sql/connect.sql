-- Settles a batch of connects. Of the arrays, $1 to $12 and $25 have an entry for each key, in the order of
-- keys, $13 to $18 one for each token that may be written, $20 and $21 one for each drone.
--
-- All of it sees one snapshot, except what the row of a key says once it is locked: "on conflict …
-- where" decides there, on the row as it is then, so of two statements that race for a key one
-- acquires it and the other gets no row. Everything else that is written hangs on the rows that
-- were acquired (I4).
with want as materialized (
    select *
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::int8[], $7::text[], $8::text[],
                $9::int8[], $10::int8[], $11::text[], $12::text[], $25::bool[])
         with ordinality as w (namespace, name, tag, backend_id, id_given, host, subdomain, static_token,
                               lifetime_seconds, max_idle_seconds, body, traceparent, origin, ix)
),
-- Who was given a key and has not released it. The database's clock says whether it still holds it,
-- unless it cannot be trusted now: past $24 nothing counts as expired.
given as materialized (
    select w.ix, l.tag, l.backend_id, l.fencing_token, b.status, b.asked, b.cluster, b.subdomain, b.origin, b.static_token,
           -- A join writes that somebody is there at most once in a quarter of the idle limit.
           coalesce(b.last_keepalive_at < now() - make_interval(secs => b.max_idle_seconds) / 4, false) as idle,
           coalesce(l.sealed_until, s.expires_at, '-infinity') as expires_at
    from want w
    cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
    cross join lateral (select * from backend b where b.id = l.backend_id offset 0) b
    left join lateral (select s.expires_at from session s where s.drone = b.drone and s.id = b.session offset 0) s on true
    where l.released_at is null
),
-- The drone that was picked still qualifies, in the session that was picked.
host as materialized (
    select h.ix, d.name as drone, d.session, d.cluster, d.pool, s.drone_time_ms
    from unnest($20::text[], $21::text[]) with ordinality as h (name, session, ix)
    cross join lateral (select * from drone d where d.name = h.name and d.session = h.session offset 0) d
    cross join lateral (select * from session s where s.drone = h.name and s.id = h.session offset 0) s
    where s.sealed_at is null and s.ready and not d.draining and s.heard_at > now() - make_interval(secs => $22)
      and not s.refused
      and (d.max_backends = 0 or s.load_backends < d.max_backends)
      and (d.max_memory_bytes = 0 or s.load_memory_bytes < d.max_memory_bytes)
      and (d.max_cpu_millis = 0 or s.load_cpu_millis < d.max_cpu_millis)
),
-- A database that was restored or failed over is not believed yet that nobody holds a key, nor that a lease has expired (I1).
-- Ids that were made up here are free: should one not be, the statement fails and is tried again with others.
placed as materialized (
    select w.*, h.drone, h.session, h.cluster, h.pool, h.drone_time_ms
    from want w
    join host h on h.ix = w.host
    where not exists (select from given g where g.ix = w.ix)
      and exists (select from settled)
      and not (w.id_given and exists (select from backend b where b.id = w.backend_id offset 0))
),
acquired as (
    insert into lease as l (namespace, name, tag, backend_id, fencing_token)
    select namespace, name, tag, backend_id,
           greatest(nextval('fencing_token'), (extract(epoch from now()) * 1000)::int8)
    from placed
    order by namespace, name
    on conflict (namespace, name) do update set
        tag           = excluded.tag,
        backend_id    = excluded.backend_id,
        -- I2: also against a statement that drew its number early and waited, a restored sequence, and a clock that stepped back.
        fencing_token = greatest(excluded.fencing_token, l.fencing_token + 1),
        released_at   = null,
        sealed_until  = null
    where l.released_at is not null
    returning l.backend_id, l.fencing_token
),
-- A full join is never made by comparing each with each; of its rows only those that were acquired count.
spawned as materialized (
    select p.*, a.fencing_token
    from placed p
    full join acquired a on a.backend_id = p.backend_id
    where coalesce(a.fencing_token, 0) > 0
),
born as (
    insert into backend (id, namespace, name, tag, cluster, pool, drone, session, fencing_token, subdomain, origin,
                         static_token, status, lifetime_ends_at, max_idle_seconds, due_at)
    select backend_id, namespace, name, tag, cluster, pool, drone, session, fencing_token, subdomain, origin,
           static_token, 10, now() + make_interval(secs => nullif(lifetime_seconds, 0)), nullif(max_idle_seconds, 0),
           now() + make_interval(secs => least($23, nullif(lifetime_seconds, 0), nullif(max_idle_seconds, 0)))
    from spawned
),
-- Who joins is active: a sweep that wants to end it as idle sees it, or else it is seen here that it was asked to end. The time is
-- that once the row is locked: it comes after that of a sweep that had the row before.
woken as materialized (
    select b.id
    from backend b
    where b.id = any(array(select g.backend_id from given g where g.idle and g.status < 60 and g.asked = 0))
      and b.status < 60 and b.asked = 0 and (select count(*) from acquired) >= 0 -- keys are locked first
    order by b.id
    for no key update
),
joined as (
    update backend b set last_keepalive_at = clock_timestamp() where b.id = any(array(select w.id from woken w))
    returning b.id
),
-- A backend that is leaving, or was asked to, gets no visitors any more.
held as materialized (
    select g.*, g.expires_at > now() or now() > $24 or not exists (select from settled) as alive,
           g.status >= 60 or g.asked > 0 or g.idle and not exists (select from joined j where j.id = g.backend_id) as leaving
    from given g
),
owner as (
    select ix, tag, backend_id, static_token from held where alive and not leaving
    union all
    select ix, tag, backend_id, static_token from spawned
),
tokens as (
    insert into token (hash, backend_id, username, auth, secret, expires_at)
    select t.hash, o.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => $19)
    from unnest($13::int8[], $14::text[], $15::bytea[], $16::text[], $17::text[], $18::text[])
         as t (ix, tag, hash, username, auth, secret)
    join owner o on o.ix = t.ix and o.tag = t.tag and o.static_token = ''
),
published as (
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body, drone_time_ms, traceparent)
    select nextval('outbox_id'), 'spawn', backend_id, drone, 10, 0, 20, body, drone_time_ms, traceparent from spawned
)
-- The results: 1 held, 2 spawned, 3 held by one whose lease has expired, 4 the wanted id is taken,
-- 5 nobody is known to hold it, in a database that is not settled.
select case when alive then 1 else 3 end as result,
       ix, backend_id, tag, status, leaving, cluster, subdomain, origin, static_token, fencing_token,
       least(greatest(extract(epoch from expires_at - now()), 0), 86400)::float8 as expires_in, 0::int8 as drone_time_ms, now() as at
from held
union all
select 2, ix, backend_id, tag, 10, false, cluster, subdomain, origin, static_token, fencing_token, 0, drone_time_ms, now()
from spawned
union all
select 4, w.ix, w.backend_id, '', 0, false, '', '', false, '', 0, 0, 0, now()
from want w
where w.id_given
  and exists (select from backend b where b.id = w.backend_id offset 0)
  and not exists (select from given g where g.ix = w.ix)
union all
select 5, w.ix, '', '', 0, false, '', '', false, '', 0, 0, 0, now()
from want w
where not exists (select from settled) and not exists (select from given g where g.ix = w.ix)
