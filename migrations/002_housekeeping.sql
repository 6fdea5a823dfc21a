-- When somebody has to look at a backend, which drones are lost, and what
-- retention finds by its age.

alter table drone
    add column grace_ms int not null default 10000, -- between soft and hard termination, as the drone stated it
    add column lost_at  timestamptz,                -- since when it counts as lost; null: it does not
    -- Never later than when it may be lost: as the backends' below, so that heartbeats change no index.
    add column due_at   timestamptz not null default now() + interval '1 minute';

create index drone_due on drone (due_at) where lost_at is null;

alter table backend
    -- Never later than the first thing that may be due: the lease's end, a limit, the
    -- grace of a termination. What it waits for may have moved on, as a renewed lease
    -- does; then the sweep that comes by puts it off. So nothing else has to touch it,
    -- and a status or a keepalive changes no index.
    add column due_at   timestamptz not null default now() + interval '1 minute',
    add column asked_at timestamptz;                -- when the termination in "asked" was asked for

create index backend_due on backend (due_at) where ended_at is null;
create index backend_ended on backend (ended_at) where ended_at is not null;
create index lease_released on lease (released_at) where released_at is not null;

-- A summary of block ranges stays as wide as it ever was once retention's space is reused.
drop index token_by_expiry;
create index token_by_expiry on token (expires_at);

---- create above / drop below ----

drop index token_by_expiry, lease_released, backend_ended, backend_due;
create index token_by_expiry on token using brin (expires_at) with (autosummarize = on, pages_per_range = 32);
alter table backend drop column asked_at, drop column due_at;
alter table drone drop column due_at, drop column lost_at, drop column grace_ms;
