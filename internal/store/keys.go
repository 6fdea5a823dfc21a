package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

// toldKeys are the keys of which there is something to tell: the index lease_told holds them alone, for who says so.
const toldKeys = `l.name > '' and (l.released_at is null or l.dormant_until > '-infinity' or l.retry_at > '-infinity')`

// keysEndSQL gives where a page that looks at $3 keys ends; nothing where there are fewer.
const keysEndSQL = `
select l.namespace, l.name
from lease l
where ` + toldKeys + ` and (l.namespace, l.name) >= ($1::text, $2::text) and (l.namespace, l.name) <= ($4::text, $5::text)
order by l.namespace, l.name
offset $3
limit 1`

// keysSQL looks at the keys from $1, $2 to $3, $4. Each of $5, $6 and $7 that is null or empty leaves nothing out.
const keysSQL = `
select k.namespace, k.name, k.tag, k.state, k.backend_id, k.status, k.drone, k.since, k.resume_seconds, k.dormant_until,
       k.failures, k.last_words, k.retry_after_ms
from (
    select l.namespace, l.name, l.tag, l.backend_id, coalesce(b.status, 70) as status, coalesce(b.drone, '') as drone, l.resume_seconds,
           case when d.kept then l.dormant_until end as dormant_until, l.failures, l.last_words,
           coalesce(ceil(extract(epoch from r.retry_at - now()) * 1000)::int8, 0) as retry_after_ms,
           case when l.released_at is null and b.nap % 2 = 1 then 'asleep'
                when l.released_at is null then 'live'
                when r.retry_at is not null then 'backing-off'
                when d.kept then 'dormant' end as state,
           case when l.released_at is not null then l.released_at
                else coalesce(case when b.nap % 2 = 1 then b.napped_at end, b.created_at, now()) end as since
    from lease l
    left join lateral (select * from backend b where b.id = l.backend_id offset 0) b on true
    left join lateral (
        select true as kept from dormant d
        where l.released_at is not null and l.dormant_until > now() and d.namespace = l.namespace and d.name = l.name and d.backend_id = l.backend_id
        offset 0
    ) d on true
    left join lateral (
        select l.retry_at where l.released_at is not null and l.retry_at > now() and l.retry_at <= now() + interval '6 minutes'
    ) r on true
    where ` + toldKeys + ` and (l.namespace, l.name) >= ($1::text, $2::text) and (l.namespace, l.name) <= ($3::text, $4::text)
      and starts_with(l.name, $5::text) and ($6::text = '' or position($6::text in l.name) > 0)
    order by l.namespace, l.name
    offset 0
) k
where k.state is not null and ($7::text[] is null or k.state = any($7::text[]))
order by k.namespace, k.name
limit $8`

// pastAllNames is greater than every name, and every namespace: no text in UTF-8 begins with as much.
const pastAllNames = "\U0010FFFF\U0010FFFF"

// Keys gives a page of keys, by namespace and name. It looks at a bounded number of them, and may have fewer than were asked for, also none, and
// not be the last.
func (s *Store) Keys(ctx context.Context, r *messages.KeysRequest) (page messages.KeysResponse, err error) {
	from, to := messages.Key{}, messages.Key{Namespace: pastAllNames, Name: pastAllNames}
	if r.Namespace != nil {
		from.Namespace, to.Namespace = *r.Namespace, *r.Namespace
		from.Name, to.Name = r.Prefix, r.Prefix+pastAllNames
	}
	if after := r.After; after != nil && (after.Namespace > from.Namespace || after.Namespace == from.Namespace && after.Name >= from.Name) {
		from = messages.Key{Namespace: after.Namespace, Name: after.Name + "\x01"} // the next one that a name can be
	}
	ends, err := read(ctx, s, func(row pgx.CollectableRow) (k messages.Key, err error) {
		return k, row.Scan(&k.Namespace, &k.Name)
	}, keysEndSQL, from.Namespace, from.Name, lookedAt-1, to.Namespace, to.Name)
	if err != nil {
		return page, wrap("list keys", err)
	}
	if len(ends) > 0 {
		to, page.Next = ends[0], &ends[0]
	}
	page.Keys, err = read(ctx, s, scanKey, keysSQL, from.Namespace, from.Name, to.Namespace, to.Name, r.Prefix, r.Search, r.States, r.Limit+1)
	if len(page.Keys) > r.Limit {
		page.Keys = page.Keys[:r.Limit]
		last := page.Keys[r.Limit-1].Key
		page.Next = &messages.Key{Namespace: last.Namespace, Name: last.Name}
	}
	return page, wrap("list keys", err)
}

func scanKey(row pgx.CollectableRow) (k messages.KeyInfo, err error) {
	var c messages.Crashes
	err = row.Scan(&k.Key.Namespace, &k.Key.Name, &k.Key.Tag, &k.State, &k.BackendID, (*int16)(&k.Status), &k.Drone, &k.Since, &k.ResumeSeconds,
		&k.DormantUntil, &c.InARow, &c.LastWords, &c.RetryAfterMS)
	if c.InARow > 0 {
		k.Crashes = &c
	}
	return k, err
}
