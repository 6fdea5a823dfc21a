-- A backend in origin mode has its host, subdomain.cluster, to itself: its URL enters by a cookie, and all paths are its own.

alter table backend add column origin boolean not null default false;

---- create above / drop below ----

alter table backend drop column origin;
