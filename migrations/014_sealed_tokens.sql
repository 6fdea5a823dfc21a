-- A backend's static token, sealed with a key that workers have and the database has not. It is found by its hash in the table token,
-- as every token is, and lives there as long as its backend does (expires_at = infinity).
-- static_token is as it is, from workers of an earlier build, until a worker has sealed it.

alter table backend add column sealed_token text not null default '';

---- create above / drop below ----

alter table backend drop column sealed_token;
