package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/placement"
)

// isFull says of a drone d that it takes no more, as placement.Drone.Full does, for the
// statements that check a pick once more. Backends are counted as far as the limit, and
// where there is none not at all.
const isFull = `(
    d.refused
    or d.max_memory_bytes > 0 and d.load_memory_bytes >= d.max_memory_bytes
    or d.max_cpu_millis > 0 and d.load_cpu_millis >= d.max_cpu_millis
    or d.max_backends > 0 and d.max_backends <= (
        select count(*)
        from (select from backend b where b.drone = d.name and b.ended_at is null limit d.max_backends) n
    )
)`

const placeableSQL = `
select d.name, d.session, d.cluster, d.pool, d.max_backends, d.max_memory_bytes, d.max_cpu_millis,
       d.load_memory_bytes, d.load_cpu_millis, d.refused,
       (select count(*) from backend b where b.drone = d.name and b.ended_at is null)::int4
from drone d
where d.ready and not d.draining and d.heard_at > now() - make_interval(secs => $1)`

func scanPlaceable(row pgx.CollectableRow) (d placement.Drone, err error) {
	err = row.Scan(&d.Name, &d.Session, &d.Cluster, &d.Pool, &d.MaxBackends, &d.MaxMemoryBytes, &d.MaxCPUMillis,
		&d.MemoryBytes, &d.CPUMillis, &d.Refused, &d.Backends)
	return d, err
}

// PlaceableDrones are those that may be given a backend now, unless they are full (lease.Store).
func (s *Store) PlaceableDrones(ctx context.Context) ([]placement.Drone, error) {
	drones, err := read(ctx, s, scanPlaceable, placeableSQL, s.terms.FreshWithin().Seconds())
	return drones, wrap("read the drones", err)
}
