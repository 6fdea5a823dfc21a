-- Executables with names. A connect names one, and drones keep spares of it: instances that they start before anybody asks.

create table template (
    name                   text collate "C" primary key,
    cluster                text not null,
    pool                   text not null,
    executable             text not null,   -- JSON, kept as it came: it may hold \u0000
    lifetime_limit_seconds bigint,          -- null: no limit, as the next
    max_idle_seconds       bigint,
    spares                 int not null,    -- that each drone of the pool keeps
    claim_path             text not null,
    revision               bigint not null, -- of one counter for all
    changed_at             timestamptz not null default now()
);

-- The counter. Who changes templates locks its row, so they take turns.
alter table setting add column templates_revision bigint not null default 0;

-- What a drone said with its last heartbeat of its spares: messages.SpareState. It stays in the row, where nobody else is written, as
-- long as it can.
alter table session add column spares jsonb not null default '[]';
alter table session alter column spares set storage main;

-- What a backend was asked for by: the name of a template, or ''.
alter table backend add column template text not null default '';

---- create above / drop below ----

alter table backend drop column template;
alter table session drop column spares;
alter table setting drop column templates_revision;
drop table template;
