-- Writes what the rules decided about backends that the transaction has locked.
update backend b
set asked = i.asked, status = i.status, address = i.address, last_status = i.last_status,
    termination_kind = i.termination_kind, termination_reason = i.termination_reason, message = i.message,
    exit_code = i.exit_code, termination_cause = i.cause, termination_by = i.by_whom, termination_why = i.why,
    changed_at = case when b.status = i.status then b.changed_at else now() end,
    asked_at = case when b.asked = i.asked then b.asked_at else now() end,
    -- The sweep knows how long a termination may take; it is to look soon.
    due_at = case when i.status = 70 or b.asked = i.asked and (b.status = i.status or i.status < 60) then b.due_at
                  else least(b.due_at, now() + interval '5 seconds') end,
    ended_at = case when i.status = 70 then now() end
from unnest($1::text[], $2::int2[], $3::int2[], $4::text[], $5::int2[], $6::text[], $7::text[], $8::text[], $9::int4[],
            $10::text[], $11::text[], $12::text[])
     as i (id, asked, status, address, last_status, termination_kind, termination_reason, message, exit_code, cause, by_whom, why)
where b.id = any($1::text[]) and b.id = i.id
