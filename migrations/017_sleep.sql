-- Backends that nobody uses sleep: they are frozen where they are. A nap counts the changes between awake and asleep, from 0, awake: the odd ones are those
-- asleep.

alter table backend
    add column sleep_after_seconds bigint,                         -- for how long nobody is connected before it sleeps; null: never
    add column sleep_ignores_idle  boolean not null default false, -- connections over which no bytes pass do not count
    add column nap                 bigint not null default 0,
    add column napped_at           timestamptz,                    -- when the nap last changed
    add column reclaimed_bytes     bigint not null default 0;      -- what its drone said to have got back of its memory in this nap

-- The drone puts backends to sleep; else none of its backends is asked to.
alter table session add column sleeps boolean not null default false;

-- Of a row of the kind nap: it is on record until the drone has said that it applied one as great.
alter table outbox add column nap bigint not null default 0;

---- create above / drop below ----

alter table outbox drop column nap;
alter table session drop column sleeps;
alter table backend
    drop column reclaimed_bytes, drop column napped_at, drop column nap, drop column sleep_ignores_idle, drop column sleep_after_seconds;
