-- The truth about keys, backends, drones and tokens, and the outbox.
--
-- Names are compared as bytes (collate "C"): cheaper, and in the order in which
-- Go sorts the keys of a batch. Nothing refers to another table by a foreign key:
-- the checks would lock the drone's row at every spawn, and every statement that
-- writes these tables writes what belongs together.

create table drone (
    name          text collate "C" primary key,
    cluster       text not null,
    pool          text not null,
    session       text not null,
    runtime       text not null,
    version       text not null,
    max_backends  int not null,             -- 0: no limit
    ready         boolean not null default false,
    draining      boolean not null default false,
    drone_time_ms bigint not null,          -- the drone's own boot-time clock, as it last stated it
    heard_at      timestamptz not null default now(),
    registered_at timestamptz not null default now()
) with (fillfactor = 50);                   -- heartbeats rewrite rows in place

-- A lease says which backend holds a key until when. Releasing marks the row, so
-- that the next fencing token can be made greater than the last (I2).
create table lease (
    namespace           text collate "C" not null,
    name                text collate "C" not null,
    tag                 text not null,
    backend_id          text collate "C" not null,
    previous_backend_id text collate "C",   -- who held it before
    fencing_token       bigint not null,
    expires_at          timestamptz not null,
    released_at         timestamptz,
    renewable           boolean not null default true,
    primary key (namespace, name)
) with (fillfactor = 70);

create index lease_by_backend on lease (backend_id);

create sequence fencing_token;
select setval('fencing_token', (extract(epoch from clock_timestamp()) * 1000)::bigint);

create table backend (
    id                 text collate "C" primary key,
    namespace          text collate "C" not null,
    name               text collate "C" not null,
    tag                text not null,
    cluster            text not null,
    pool               text not null,
    drone              text collate "C" not null,
    session            text not null,       -- the drone's session that holds it
    subdomain          text not null default '',
    static_token       text not null default '',
    status             smallint not null,   -- numbers of design section 5
    revision           int not null default 1, -- guards read, decide, write
    asked              smallint not null default 0, -- termination asked for: 1 soft, 2 hard
    address            text not null default '',
    last_status        smallint not null default 0,
    termination_kind   text not null default '',
    termination_reason text not null default '',
    message            text not null default '',
    exit_code          int,
    lifetime_ends_at   timestamptz,
    max_idle_seconds   bigint,
    last_keepalive_at  timestamptz not null default now(),
    created_at         timestamptz not null default now(),
    changed_at         timestamptz not null default now(),
    ended_at           timestamptz
) with (fillfactor = 70);

-- On ended_at and not on status, so that a change of status touches no index.
create index backend_live on backend (drone) where ended_at is null;
create unique index backend_static_token on backend (static_token) where static_token <> '';

create table token (
    hash       bytea primary key,           -- SHA-256; the token itself is not stored
    backend_id text collate "C" not null,
    username   text not null,
    auth       text not null,               -- JSON, kept as it came: it may hold \u0000
    secret     text not null,
    expires_at timestamptz not null
);
create index token_by_user on token (backend_id, username);
create index token_by_expiry on token using brin (expires_at) with (autosummarize = on, pages_per_range = 32);

-- What is committed and must be published. A state stays until the bus has
-- acknowledged it; an action until its backend was reported to have reached
-- until_status, which shows that the drone took it (I3). A spawn stands for the
-- state "scheduled" too, which is published before it.
create table outbox (
    id            bigint primary key,
    kind          text not null,            -- state, spawn, terminate, drone
    backend_id    text collate "C" not null,
    drone         text collate "C" not null,
    status        smallint not null default 0,
    last_status   smallint not null default 0,
    until_status  smallint,
    body          text not null default '', -- JSON; what the columns here do not say
    drone_time_ms bigint not null default 0, -- what a spawn's deadlines count from
    traceparent   text not null default '',
    attempts      smallint not null default 0,
    created_at    timestamptz not null default now(),
    due_at        timestamptz not null default now() + interval '5 seconds'
);
create index outbox_by_backend on outbox (backend_id);
create sequence outbox_id;

---- create above / drop below ----

drop table outbox, token, backend, lease, drone;
drop sequence outbox_id, fencing_token;
