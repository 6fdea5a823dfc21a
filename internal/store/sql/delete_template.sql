-- Deletes a template where the transaction has locked the counter: $1 name, $2 the revision that it must have now (0: any). It gives the
-- revision that it had; nothing where there is none.
with gone as (
    delete from template t where t.name = $1 and ($2::int8 = 0 or t.revision = $2) returning t.revision
),
counted as (
    update setting s
    set templates_revision = greatest(s.templates_revision + 1, (extract(epoch from now()) * 1000)::int8)
    from gone g
)
select t.revision, exists (select from gone) from template t where t.name = $1
