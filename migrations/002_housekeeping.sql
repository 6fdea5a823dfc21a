-- When somebody has to look at a backend, which drones are lost, and what
-- retention finds by its age.

alter table drone
    add column grace_ms int not null default 10000, -- between soft and hard termination, as the drone stated it
    add column lost_at  timestamptz,                -- since when it counts as lost; null: it does not
    -- Never later than when it may be lost: as the backends' below, so that heartbeats change no index.
    add column due_at   timestamptz not null default now() + interval '1 minute';

-- That due_at is finite is said for the sweep alone to use the index: others, who ask for the drones that are
-- not lost or the backends that have not ended, must not take it for a short way to all of them.
create index drone_due on drone (due_at) where lost_at is null and due_at > '-infinity';

alter table backend
    -- Never later than the first thing that may be due: the lease's end, a limit, the
    -- grace of a termination. What it waits for may have moved on, as a renewed lease
    -- does; then the sweep that comes by puts it off. So nothing else has to touch it,
    -- and a status or a keepalive changes no index.
    add column due_at   timestamptz not null default now() + interval '1 minute',
    add column asked_at timestamptz;                -- when the termination in "asked" was asked for

create index backend_due on backend (due_at) where ended_at is null and due_at > '-infinity';
create index backend_ended on backend (ended_at) where ended_at is not null;
create index drone_lost on drone (lost_at) where lost_at is not null;
create index lease_released on lease (released_at) where released_at is not null;

-- By default a table is vacuumed once a fifth of it is dead. These turn over faster than they grow: the
-- outbox is nearly empty however much goes through it, and retention deletes little by little.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
alter table token set (autovacuum_vacuum_scale_factor = 0.05);
alter table backend set (autovacuum_vacuum_scale_factor = 0.05);
alter table lease set (autovacuum_vacuum_scale_factor = 0.05);

-- A summary of block ranges stays as wide as it ever was once retention's space is reused.
drop index token_by_expiry;
create index token_by_expiry on token (expires_at);

---- create above / drop below ----

alter table outbox reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
alter table token reset (autovacuum_vacuum_scale_factor);
alter table backend reset (autovacuum_vacuum_scale_factor);
alter table lease reset (autovacuum_vacuum_scale_factor);

drop index token_by_expiry, lease_released, drone_lost, backend_ended, backend_due;
create index token_by_expiry on token using brin (expires_at) with (autosummarize = on, pages_per_range = 32);
alter table backend drop column asked_at, drop column due_at;
alter table drone drop column due_at, drop column lost_at, drop column grace_ms;
