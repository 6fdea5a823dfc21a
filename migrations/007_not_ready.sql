-- Why a drone says that it takes no backends, for whoever lists drones.

alter table session add column not_ready text not null default '';

---- create above / drop below ----

alter table session drop column not_ready;
