package store

// A batch is settled by one statement: joinSQL where nothing may be spawned, else
// connectSQL; and then takeoverSQL for the few keys that it leaves, for the lease of
// who holds them has expired, or the wanted id is taken. They are put together from
// the same parts.
//
// Of the arrays, $1…$7 and $15…$23 have an entry for each key and the first token to
// be written for it, $9…$14 one for each further token, $24 and $25 one for each drone.
//
// All of a statement sees one snapshot, except what the lease's row says once it is
// locked: "on conflict … where" decides there, on the row as it is then, so of two
// statements that race for a key one acquires it and the other gets no row.
// Everything else that is written hangs on the rows that were acquired (I4).
var (
	joinSQL = `
with want as materialized (
    select *
    from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[])
         with ordinality as w (namespace, name, tag, hash, username, auth, secret, ix)
),` + heldCTE + `
owner as (` + ownersHeld + `),
tokens as (` + insertTokens + `)
select ix, backend_id, tag, status, cluster, subdomain, static_token,
       extract(epoch from expires_at - now())::float8 as expires_in
from held`

	connectSQL = `
with` + wantCTE + heldCTE + placedCTE + acquiredCTE + `
    where l.released_at is not null` + spawnedCTE + `
published as (` + insertSpawns + `)` + selectGot

	takeoverSQL = `
with` + wantCTE + heldCTE + placedCTE + acquiredCTE + `
    where l.released_at is not null or l.expires_at <= now()` + spawnedCTE + lostCTE + `
published as (` + insertSpawns + `
    union all
    select state_row, 'state', id, drone, 70, last_status, null, $28::text, 0, '' from lost_rows
    union all
    select terminate_row, 'terminate', id, drone, 0, 0, 70, '{"hard":true,"reason":"lost"}', 0, '' from lost_rows
)` + selectGot + `
union all
select 3, 0, id, '', last_status, '', '', '', 0, 0, 0, now(), drone
from lost_rows
union all
select 4, w.ix, w.backend_id, '', 0, '', '', '', 0, 0, 0, now(), ''
from want w
where w.id_given
  and exists (select from backend b where b.id = w.backend_id offset 0)
  and not exists (select from held h where h.ix = w.ix)`
)

const wantCTE = `
want as materialized (
    select *
    from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[],
                $15::text[], $16::bool[], $17::int8[], $18::text[], $19::text[], $20::int8[], $21::int8[],
                $22::text[], $23::text[])
         with ordinality as w (namespace, name, tag, hash, username, auth, secret,
                backend_id, id_given, host, subdomain, static_token, lifetime_seconds, max_idle_seconds,
                body, traceparent, ix)
),`

// heldCTE is who holds the keys that are wanted now, by the database's clock.
const heldCTE = `
held as materialized (
    select w.ix, l.tag, l.backend_id, l.fencing_token, l.expires_at, b.status, b.cluster, b.subdomain, b.static_token,
           w.tag as wanted, w.hash, w.username, w.auth, w.secret
    from want w
    cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
    cross join lateral (select * from backend b where b.id = l.backend_id offset 0) b
    where l.released_at is null and l.expires_at > now()
),`

// placedCTE is what may be spawned, should nobody hold the key: the drone that was
// picked still qualifies in the session that was picked, and the id is free. Ids that
// were made up here are: should one not be, the statement fails and is tried again
// with others.
const placedCTE = `
host as materialized (
    select h.ix, d.name as drone, d.session, d.cluster, d.pool, d.drone_time_ms
    from unnest($24::text[], $25::text[]) with ordinality as h (name, session, ix)
    cross join lateral (select * from drone d where d.name = h.name offset 0) d
    where d.session = h.session and d.ready and not d.draining and d.heard_at > now() - make_interval(secs => $26)
      and not ` + isFull + `
),
placed as materialized (
    select w.*, h.drone, h.session, h.cluster, h.pool, h.drone_time_ms
    from want w
    join host h on h.ix = w.host
    where not exists (select from held h where h.ix = w.ix)
      and not (w.id_given and exists (select from backend b where b.id = w.backend_id offset 0))
),`

// acquiredCTE is followed by which leases may be had.
const acquiredCTE = `
acquired as (
    insert into lease as l (namespace, name, tag, backend_id, fencing_token, expires_at)
    select namespace, name, tag, backend_id, nextval('fencing_token'), now() + make_interval(secs => $27)
    from placed
    order by namespace, name
    on conflict (namespace, name) do update set
        tag                 = excluded.tag,
        previous_backend_id = l.backend_id,
        backend_id          = excluded.backend_id,
        -- I2, also against a statement that drew its number early and waited.
        fencing_token       = greatest(excluded.fencing_token, l.fencing_token + 1),
        expires_at          = excluded.expires_at,
        released_at         = null,
        renewable           = true`

// spawnedCTE is what was acquired, with all that belongs to it.
const spawnedCTE = `
    returning l.backend_id, l.previous_backend_id, l.fencing_token
),
-- A full join is never made by comparing each with each; of its rows only those that were acquired count.
spawned as materialized (
    select p.*, a.previous_backend_id, a.fencing_token
    from placed p
    full join acquired a on a.backend_id = p.backend_id
    where coalesce(a.fencing_token, 0) > 0
),
born as (
    insert into backend (id, namespace, name, tag, cluster, pool, drone, session, subdomain,
                         static_token, status, lifetime_ends_at, max_idle_seconds, due_at)
    select backend_id, namespace, name, tag, cluster, pool, drone, session, subdomain,
           static_token, 10, now() + make_interval(secs => nullif(lifetime_seconds, 0)), nullif(max_idle_seconds, 0),
           now() + make_interval(secs => least($27, nullif(lifetime_seconds, 0), nullif(max_idle_seconds, 0)))
    from spawned
),
owner as (` + ownersHeld + `
    union all
    select ix, tag, tag, backend_id, static_token, hash, username, auth, secret from spawned
),
tokens as (` + insertTokens + `),`

// ownersHeld are the backends that tokens can be written for, with the first token of each.
const ownersHeld = `
    select ix, tag, wanted, backend_id, static_token, hash, username, auth, secret from held where status < 60`

// insertTokens writes a token if its tag is that of the key, whose backend has none of its own.
const insertTokens = `
    insert into token (hash, backend_id, username, auth, secret, expires_at)
    select o.hash, o.backend_id, o.username, o.auth, o.secret, now() + make_interval(secs => $8)
    from owner o
    where o.wanted = o.tag and o.static_token = '' and o.hash is not null
    union all
    select t.hash, o.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => $8)
    from unnest($9::int8[], $10::text[], $11::bytea[], $12::text[], $13::text[], $14::text[])
         as t (ix, tag, hash, username, auth, secret)
    join owner o on o.ix = t.ix and o.tag = t.tag and o.static_token = ''
`

// lostCTE is who held an expired lease: it ends as lost, as lifecycle.Step does on Lost.
const lostCTE = `
lost as (
    update backend b
    set status = 70, last_status = b.status, termination_kind = '', termination_reason = 'lost', asked = 2,
        revision = b.revision + 1, changed_at = now(), ended_at = now()
    where b.id = any(array(select a.previous_backend_id from acquired a)) and b.status < 70
    returning b.id, b.drone, b.last_status
),
lost_rows as materialized (
    select l.*, nextval('outbox_id') as state_row, nextval('outbox_id') as terminate_row from lost l
),
-- Nobody may run it any more. What is left of its spawn is the state that it stands
-- for, which perhaps nobody has published yet (I5): keepScheduledSQL.
withdrawn as (
    update outbox o set kind = 'state', until_status = null, body = ''
    where o.backend_id = any(array(select l.id from lost l)) and o.kind = 'spawn'
),`

const insertSpawns = `
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body, drone_time_ms, traceparent)
    select nextval('outbox_id'), 'spawn', backend_id, drone, 10, 0, 20, body, drone_time_ms, traceparent from spawned
`

// selectGot gives a connectRow for each key that is held or acquired.
const selectGot = `
select 1 as result, ix, backend_id, tag, status, cluster, subdomain, static_token, fencing_token,
       extract(epoch from expires_at - now())::float8 as expires_in, 0::int8 as drone_time_ms, now() as at, '' as other
from held
union all
select 2, ix, backend_id, tag, 10, cluster, subdomain, static_token, fencing_token, 0, drone_time_ms, now(),
       coalesce(previous_backend_id, '')
from spawned`
