-- Where the database is: so that one which was restored, or failed over to, is known to be another, for it may have
-- forgotten who holds which key.

-- home says where it was written itself: in which cluster of Postgres, on which timeline and in which database (jetway.cluster,
-- which each session sets when it begins), as which table, and by which transaction. A copy says the same, and is not there: a dump is written
-- by another transaction, a promoted standby and a recovery to an earlier time are on another timeline. A migration that rewrote
-- the table would make it a copy.
create table home (
    only_row boolean primary key default true check (only_row),
    id       text not null
);

-- here has the home's row where it is at home, and none in a copy, until a worker has written it anew.
create view here as
select h.id from home h where h.only_row and h.id = current_setting('jetway.cluster', true) || '.' || h.tableoid || '.' || h.xmin;

-- Since a worker has written it anew, all drones have had a lease's time: what runs is known again.
alter table setting add column settled_home text not null default '';

-- settled has a row when it is believed what the database says of keys that nobody holds, and of leases that have expired.
create view settled as
select h.id from here h join setting s on s.only_row and s.settled_home = h.id;

insert into home (id)
select current_setting('jetway.cluster') || '.' || 'home'::regclass::oid || '.' || pg_current_xact_id()::xid
from setting;
update setting set settled_home = h.id from home h;

-- In which home a session began: in another one it is over, for what is held must be compared first.
alter table session rename column timeline to home;
update session set home = h.id from home h;

---- create above / drop below ----

alter table session rename column home to timeline;
drop view settled, here;
alter table setting drop column settled_home;
drop table home;
