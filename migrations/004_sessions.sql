-- One lease a session of a drone, instead of one a key: a key is held while the lease of
-- the session that holds it lives. A heartbeat renews one row.

create table session (
    drone             text collate "C" not null,
    id                text collate "C" not null,
    machine_id        text not null,        -- whose lease it is: a random id from the machine's data directory,
    boot_id           text not null,        -- and since which start of its system
    expires_at        timestamptz not null, -- never moves back
    sealed_at         timestamptz,          -- it is renewed no more: its keys may go to others from expires_at on
    timeline          text not null,        -- of the database, when what is held was last compared in full
    drone_time_ms     bigint not null,      -- the drone's own boot-time clock, as it last stated it
    heard_at          timestamptz not null default now(),
    ready             boolean not null default false,
    -- What the drone said with its last heartbeat to hold, and to have promised to its backends.
    load_backends     int not null default 0,
    load_memory_bytes bigint not null default 0,
    load_cpu_millis   bigint not null default 0,
    refused           boolean not null default false, -- it had no room for a backend, and has not sent a heartbeat since
    -- Never later than when the lease may end, so that heartbeats change no index.
    due_at            timestamptz not null,
    primary key (drone, id)
) with (fillfactor = 50);                   -- heartbeats rewrite rows in place

-- That due_at is finite is said for the sweep alone to use the index.
create index session_due on session (due_at) where sealed_at is null and due_at > '-infinity';
create index session_sealed on session (sealed_at) where sealed_at is not null;

-- What holds a lease now goes on holding it until it would have ended, in a session that nobody renews.
insert into session (drone, id, machine_id, boot_id, expires_at, sealed_at, timeline, drone_time_ms, due_at)
select b.drone, b.session, '', '', max(l.expires_at), now(), '', 0, now()
from backend b join lease l on l.backend_id = b.id and l.released_at is null
where b.ended_at is null
group by b.drone, b.session;

-- Which session holds a key, its backend says.
drop index lease_by_backend;
alter table lease
    add column sealed_until timestamptz,    -- not null: it is renewed no more with its session, and ends then
    drop column previous_backend_id,
    drop column expires_at,
    drop column renewable;
create index lease_sealed on lease (backend_id) where sealed_until is not null and released_at is null;

alter table backend add column fencing_token bigint not null default 0;
update backend b set fencing_token = l.fencing_token from lease l where l.backend_id = b.id;
alter table backend
    alter column session type text collate "C",
    drop column revision;
-- The sweep has nothing to do with leases any more; a backend that nothing limits is due never.
update backend set due_at = now() where ended_at is null;

alter table drone
    drop column ready,
    drop column drone_time_ms,
    drop column heard_at,
    drop column load_memory_bytes,
    drop column load_cpu_millis,
    drop column refused,
    drop column due_at;

-- Which proxy has somebody connected to which backend. A proxy names all of them with each word that is counted here: what
-- it was heard after without naming it is not connected any more, while its silence says nothing.
create table proxy (
    name     text collate "C" primary key,
    heard_at timestamptz not null
) with (fillfactor = 50);
create table connection (
    backend_id text collate "C" not null,
    proxy      text collate "C" not null,
    seen_at    timestamptz not null,
    primary key (backend_id, proxy)
) with (fillfactor = 50);

-- What all workers must agree on.
create table setting (
    only_row     boolean primary key default true check (only_row),
    lease_ttl_ms bigint not null
);

---- create above / drop below ----

-- There is no way back to a lease for each key.
do $$ begin raise exception 'version 4 cannot be undone: restore a backup'; end $$;
