-- Writes what the rules decided about backends that the transaction has locked.
update backend b
set asked = i.asked, status = i.status, address = i.address, last_status = i.last_status,
    termination_kind = i.termination_kind, termination_reason = i.termination_reason, message = i.message,
    exit_code = i.exit_code, termination_cause = i.cause, termination_by = i.by_whom, termination_why = i.why,
    nap = i.nap, reclaimed_bytes = i.reclaimed_bytes,
    napped_at = case when b.nap = i.nap then b.napped_at else now() end,
    changed_at = case when b.status = i.status then b.changed_at else now() end,
    asked_at = case when b.asked = i.asked then b.asked_at else now() end,
    -- The sweep knows how long a termination may take; it is to look soon.
    due_at = case when i.status = 70 then b.due_at
                  when b.asked <> i.asked or b.status <> i.status and i.status >= 60 then least(b.due_at, now() + interval '5 seconds')
                  -- What has woken may fall asleep again.
                  when b.nap <> i.nap and i.nap % 2 = 0 then least(b.due_at, now() + make_interval(secs => b.sleep_after_seconds))
                  else b.due_at end,
    ended_at = case when i.status = 70 then now() end
from unnest($1::text[], $2::int2[], $3::int2[], $4::text[], $5::int2[], $6::text[], $7::text[], $8::text[], $9::int4[],
            $10::text[], $11::text[], $12::text[], $13::int8[], $14::int8[])
     as i (id, asked, status, address, last_status, termination_kind, termination_reason, message, exit_code, cause, by_whom, why, nap, reclaimed_bytes)
where b.id = any($1::text[]) and b.id = i.id
