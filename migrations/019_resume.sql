-- Keys that outlive their backends: a dormant one starts again when somebody visits the URL of before, or connects without a spawn_config.

alter table lease
    add column resume_seconds bigint,       -- for how long the key is dormant once its backend has ended; null: not at all
    add column dormant_until  timestamptz,  -- set when the key is released; null while it is held
    add column resumes        text;         -- the backend whose life the holder's goes on; null: none

-- What a dormant key is started with. It counts only while backend_id was the last to hold the key: so the key's row in lease alone
-- says whether the key is dormant, under its lock.
create table dormant (
    namespace    text collate "C" not null,
    name         text collate "C" not null,
    backend_id   text collate "C" not null,
    tag          text not null,
    config       text not null,             -- the spawn_config; JSON, kept as it came: it may hold \u0000
    subdomain    text not null,             -- with origin: of the URL
    origin       boolean not null,
    sealed_token text not null,
    token_hash   bytea not null,
    primary key (namespace, name)
) with (fillfactor = 70);
create index dormant_by_token on dormant (token_hash);

alter table backend add column resumes text not null default '';

---- create above / drop below ----

alter table backend drop column resumes;
drop table dormant;
alter table lease drop column resumes, drop column dormant_until, drop column resume_seconds;
