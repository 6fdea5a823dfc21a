-- How often in a row the lives of a key have failed, and until when it rests for that: a program that ends at once is not started
-- again and again.

alter table lease
    add column failures   integer not null default 0,
    add column retry_at   timestamptz, -- before it nobody acquires the key
    add column last_words text not null default ''; -- of the life that failed last

---- create above / drop below ----

alter table lease drop column last_words, drop column retry_at, drop column failures;
