-- Why a backend ends, beyond the reason that its drone is told, and what it runs: for people, and for programs that tell people.

alter table backend
    add column termination_cause text not null default '', -- idle, lifetime, asked, drone-silent …: what led to its end
    add column termination_by    text not null default '', -- who asked for it, as he calls himself
    add column termination_why   text not null default '', -- the cause in words
    add column runs              text not null default ''; -- its image or its command, cut short

---- create above / drop below ----

alter table backend drop column runs, drop column termination_why, drop column termination_by, drop column termination_cause;
