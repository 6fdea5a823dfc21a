-- How long the workers still wait in a database that was restored or failed over, for who asks the database: settles_at is when the
-- first of them will have waited long enough, in the home settles_home. Nothing is decided by it.

alter table setting add column settles_home text not null default '', add column settles_at timestamptz;

---- create above / drop below ----

alter table setting drop column settles_home, drop column settles_at;
