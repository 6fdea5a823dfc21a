package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

// lookedAt bounds the rows that one page looks at: no index knows which backends are wanted.
const lookedAt = 10_000

// pageEndSQL and livePageEndSQL give where a page that looks at so many rows ends; nothing where there are fewer.
const (
	pageEndSQL     = `select id from backend where id > $1 order by id offset $2 limit 1`
	livePageEndSQL = `select id from backend where ended_at is null and id > '' and id > $1 order by id offset $2 limit 1`
)

// pastAllIDs is greater than every id.
const pastAllIDs = "~"

// whichBackends are the conditions of a listing, each left out where its argument is null.
const whichBackends = `b.id > $1 and b.id <= $3
      and ($4::text is null or b.drone = $4) and ($5::text is null or b.name = $5) and ($6::text is null or b.namespace = $6)
      and ($7::int2[] is null or b.status = any($7)) and ($8::int8 is null or b.changed_at > now() - make_interval(secs => $8))`

const (
	filteredSQL     = `select ` + backendColumns + ` from backend b where ` + whichBackends + ` order by b.id limit $2`
	liveFilteredSQL = `select ` + backendColumns + ` from backend b where b.ended_at is null and b.id > '' and ` + whichBackends + ` order by b.id limit $2`
)

// filtered looks at a bounded number of backends, and gives those that are wanted, and the last at which it
// looked where there are more.
func (s *Store) filtered(ctx context.Context, r *messages.BackendsRequest) (list []messages.BackendInfo, next string, err error) {
	end, page := pageEndSQL, filteredSQL
	if !r.All {
		end, page = livePageEndSQL, liveFilteredSQL
	}
	until := pastAllIDs
	ends, err := read(ctx, s, pgx.RowTo[string], end, r.After, lookedAt-1)
	if err != nil {
		return nil, "", err
	}
	if len(ends) > 0 {
		until, next = ends[0], ends[0]
	}
	var drone, name *string
	if r.Drone != "" {
		drone = &r.Drone
	}
	namespace := r.Namespace
	if r.Key != nil {
		name, namespace = &r.Key.Name, &r.Key.Namespace
	}
	list, err = read(ctx, s, scanBackend, page, r.After, r.Limit+1, until, drone, name, namespace, numbers(r.Statuses), r.ChangedWithinSeconds)
	return list, next, err
}

// numbers are those of statuses; nil for none.
func numbers(statuses []messages.Status) (list []int16) {
	for _, s := range statuses {
		list = append(list, int16(s))
	}
	return list
}
