-- Acquires keys that nobody holds, for backends that it makes. Of the arrays, $1 to $12 and $24 to $34 have an entry for each key, in the order of
-- keys, $13 to $19 one for each token that may be written, $20 and $21 one for each drone; $22: how many
-- seconds ago one was heard that is heard, $23: how many seconds a lease lives.
--
-- All of it sees one snapshot, except what the row of a key says once it is locked: "on conflict …
-- where" decides there, on the row as it is then, so of two statements that race for a key one
-- acquires it and the other gets no row. Everything else that is written hangs on the rows that
-- were acquired (I4).
with want as materialized (
    select *
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::int8[], $7::text[], $8::text[],
                $9::int8[], $10::int8[], $11::text[], $12::text[], $24::bool[], $25::text[], $26::bytea[], $27::text[], $28::int8[], $29::int8[], $30::bool[],
                $31::int8[], $32::text[], $33::bool[], $34::text[])
         with ordinality as w (namespace, name, tag, backend_id, id_given, host, subdomain, sealed_token,
                               lifetime_seconds, max_idle_seconds, body, traceparent, origin, runs, static_hash, template, revision,
                               sleep_after_seconds, sleep_ignores_idle, resume_seconds, config, any_label, goes_on, ix)
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
    select w.*, h.drone, h.session, h.cluster, h.pool, h.drone_time_ms, k.backend_id as resumes,
           -- Who resumes a dormant key has the URL of before.
           case when w.any_label and k.origin then k.subdomain else w.subdomain end as label,
           coalesce(k.sealed_token, w.sealed_token) as given_token, coalesce(k.token_hash, w.static_hash) as given_hash
    from want w
    join host h on h.ix = w.host
    left join lateral (
        select d.*
        from dormant d
        cross join lateral (select * from lease l where l.namespace = d.namespace and l.name = d.name offset 0) l
        where w.resume_seconds > 0 and w.sealed_token <> '' and d.namespace = w.namespace and d.name = w.name and d.tag = w.tag
          and l.backend_id = d.backend_id and l.released_at is not null and l.dormant_until > now()
        offset 0
    ) k on true
    where exists (select from settled)
      -- What was read of the dormant key still holds: it was not forgotten, nor resumed by another, whose life would be gone on with.
      and (w.goes_on = '' or w.goes_on = k.backend_id)
      and not (w.id_given and exists (select from backend b where b.id = w.backend_id offset 0))
      -- The template that was read is still the one of that name.
      and (w.template = '' or exists (select from template t where t.name = w.template and t.revision = w.revision offset 0))
),
acquired as (
    insert into lease as l (namespace, name, tag, backend_id, fencing_token, resume_seconds, resumes)
    select namespace, name, tag, backend_id,
           greatest(nextval('fencing_token'), (extract(epoch from now()) * 1000)::int8), nullif(resume_seconds, 0), resumes
    from placed
    -- As bytes, as everybody else locks them: arrays compare as the database does otherwise.
    order by namespace collate "C", name collate "C"
    on conflict (namespace, name) do update set
        tag           = excluded.tag,
        backend_id    = excluded.backend_id,
        -- I2: also against a statement that drew its number early and waited, a restored sequence, and a clock that stepped back.
        fencing_token = greatest(excluded.fencing_token, l.fencing_token + 1),
        released_at   = null,
        sealed_until  = null,
        resume_seconds = excluded.resume_seconds,
        resumes        = excluded.resumes,
        dormant_until  = null
    -- A key whose lives have failed in a row rests. One that would rest for longer than any was told so by a clock that has stepped back.
    where l.released_at is not null
      and (l.retry_at is null or l.retry_at <= now() or l.retry_at > now() + interval '6 minutes')
      -- A dormant key is resumed once, by what was kept of its last holder, and never once it is forgotten.
      and (excluded.resumes is null or l.backend_id = excluded.resumes and l.dormant_until > now())
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
                         sealed_token, status, lifetime_ends_at, max_idle_seconds, runs, template,
                         sleep_after_seconds, sleep_ignores_idle, resumes, due_at)
    select backend_id, namespace, name, tag, cluster, pool, drone, session, fencing_token, label, origin,
           given_token, 10, now() + make_interval(secs => nullif(lifetime_seconds, 0)), nullif(max_idle_seconds, 0), runs, template,
           nullif(sleep_after_seconds, 0), sleep_ignores_idle, coalesce(resumes, ''),
           now() + make_interval(secs => least($23, nullif(lifetime_seconds, 0), nullif(max_idle_seconds, 0), nullif(sleep_after_seconds, 0)))
    from spawned
    -- Of two statements that want the same ids, one waits for the other.
    order by backend_id collate "C"
),
kept as (
    insert into dormant as d (namespace, name, backend_id, tag, config, subdomain, origin, sealed_token, token_hash)
    select namespace, name, backend_id, tag, config, label, origin, given_token, given_hash
    from spawned
    where resume_seconds > 0 and given_token <> ''
    on conflict (namespace, name) do update set
        backend_id = excluded.backend_id, tag = excluded.tag, config = excluded.config, subdomain = excluded.subdomain, origin = excluded.origin,
        sealed_token = excluded.sealed_token, token_hash = excluded.token_hash
),
tokens as (
    insert into token (hash, backend_id, username, auth, secret, expires_at, lifetime_seconds)
    select t.hash, s.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => t.life), t.life
    from unnest($13::int8[], $14::text[], $15::bytea[], $16::text[], $17::text[], $18::text[], $19::int8[])
         as t (ix, tag, hash, username, auth, secret, life)
    join spawned s on s.ix = t.ix and s.tag = t.tag and s.given_token = ''
    union all
    -- A static token lives as long as its backend.
    select s.given_hash, s.backend_id, '', '', '', 'infinity', 0 from spawned s where s.given_token <> ''
    -- One of a life before, which leads to this one from now on.
    on conflict (hash) do update set backend_id = excluded.backend_id
),
published as (
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body, drone_time_ms, traceparent)
    select nextval('outbox_id'), 'spawn', backend_id, drone, 10, 0, 20, body, drone_time_ms, traceparent from spawned
)
-- The results: 1 spawned, 2 nobody holds the key, but the wanted id is taken, 3 nobody is known to hold it, in a database that is not settled,
-- 4 nobody holds it, and it rests: the numbers are then how often in a row its lives have failed, and for how many ms it rests.
select 1 as result, ix, fencing_token, drone_time_ms, now() as at, '' as last_words, given_token, label, coalesce(resumes, '') as resumes
from spawned
union all
select 2, w.ix, 0, 0, now(), '', '', '', ''
from want w
where w.id_given
  and exists (select from backend b where b.id = w.backend_id offset 0)
  and not exists (select from lease l where l.namespace = w.namespace and l.name = w.name and l.released_at is null offset 0)
union all
select 3, w.ix, 0, 0, now(), '', '', '', ''
from want w
where not exists (select from settled)
  and not exists (select from lease l where l.namespace = w.namespace and l.name = w.name and l.released_at is null offset 0)
union all
select 4, w.ix, l.failures, ceil(extract(epoch from l.retry_at - now()) * 1000)::int8, now(), l.last_words, '', '', ''
from want w
cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
where l.released_at is not null and l.retry_at > now() and l.retry_at <= now() + interval '6 minutes'
