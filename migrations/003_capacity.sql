-- What drones take at most beside a number of backends, and what they have promised.

alter table drone
    add column max_memory_bytes  bigint not null default 0,     -- 0: no limit
    add column max_cpu_millis    bigint not null default 0,     -- 0: no limit; thousandths of a processor
    -- What the drone said with its last heartbeat to have promised to its backends.
    add column load_memory_bytes bigint not null default 0,
    add column load_cpu_millis   bigint not null default 0,
    -- It had no room for a backend it was given, and has not sent a heartbeat since.
    add column refused           boolean not null default false;

---- create above / drop below ----

alter table drone
    drop column refused,
    drop column load_cpu_millis,
    drop column load_memory_bytes,
    drop column max_cpu_millis,
    drop column max_memory_bytes;
