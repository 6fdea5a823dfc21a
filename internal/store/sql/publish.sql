-- Writes rows to be published, in order, and gives their ids in it.
with row as materialized (
    select nextval('outbox_id') as id, r.*
    from unnest($1::text[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int2[], $7::text[], $8::text[], $9::int8[])
         with ordinality as r (kind, backend_id, drone, status, last_status, until_status, body, traceparent, nap, ix)
    order by r.ix
),
written as (
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body, traceparent, nap)
    select id, kind, backend_id, drone, status, last_status, nullif(until_status, 0), body, traceparent, nap from row
)
select id, ix, now() from row order by ix
