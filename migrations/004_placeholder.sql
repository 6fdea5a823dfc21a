-- Stands for the change that takes this number, until the branches are put together.

select 1;

---- create above / drop below ----

select 1;
