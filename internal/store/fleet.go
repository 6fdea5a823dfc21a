package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

var (
	fleetSQL  = statement("fleet")
	forgetSQL = statement("forget")
)

// Fleet gives the drones by cluster, pool and state.
func (s *Store) Fleet(ctx context.Context) ([]placement.Group, error) {
	groups, err := read(ctx, s, func(row pgx.CollectableRow) (g placement.Group, err error) {
		err = row.Scan(&g.Cluster, &g.Pool, (*string)(&g.State), &g.Drones, &g.HeardAgo, &g.Load.Backends, &g.Load.MemoryBytes, &g.Load.CPUMillis,
			&g.Capacity.MaxBackends, &g.Capacity.MaxMemoryBytes, &g.Capacity.MaxCPUMillis, &g.Limited.Backends, &g.Limited.Memory, &g.Limited.CPU, &g.Stopped)
		return g, err
	}, fleetSQL, s.Terms().FreshWithin().Seconds(), messages.AgentStopped)
	return groups, wrap("count the drones", err)
}

// Live is how many backends of a cluster have a status.
type Live struct {
	Cluster  string
	Status   messages.Status
	Backends int
	// Asleep are those of them that sleep.
	Asleep int
}

// liveCountSQL reads all live backends: no index has their status.
const liveCountSQL = `select b.cluster, b.status, count(*), count(*) filter (where b.nap % 2 = 1) from backend b where b.ended_at is null group by b.cluster, b.status`

// proxiesSQL counts the proxies that were heard within $1 seconds.
const proxiesSQL = `select count(*) from proxy p where p.heard_at > now() - make_interval(secs => $1)`

// Live counts the backends that have not ended, and the proxies that were heard within a lease's time.
func (s *Store) Live(ctx context.Context) (live []Live, proxies int, err error) {
	live, err = read(ctx, s, func(row pgx.CollectableRow) (l Live, err error) {
		err = row.Scan(&l.Cluster, (*int16)(&l.Status), &l.Backends, &l.Asleep)
		return l, err
	}, liveCountSQL)
	if err == nil {
		err = s.pool.QueryRow(ctx, proxiesSQL, s.Terms().TTL.Seconds()).Scan(&proxies)
	}
	return live, proxies, wrap("count the backends", err)
}

// Forget forgets a drone that is lost, and gives the event to publish. It refuses one that is not lost, or of which
// something has not ended.
func (s *Store) Forget(ctx context.Context, drone string) (event outbox.Row, err error) {
	found, err := read(ctx, s, func(row pgx.CollectableRow) (f forgotten, err error) {
		var body string
		f.event = outbox.Row{Kind: outbox.KindDrone, BackendID: drone, Drone: drone}
		err = row.Scan(&f.lost, &f.left, &f.event.ID, &body, &f.event.At)
		f.event.Body = []byte(body)
		return f, err
	}, forgetSQL, drone, messages.TypeDroneForgotten)
	switch {
	case err != nil:
		return event, wrap("forget a drone", err)
	case len(found) == 0:
		return event, messages.Errorf(messages.NotFound, "there is no drone %q", drone)
	case found[0].event.ID != 0:
		return found[0].event, nil
	case !found[0].lost:
		return event, messages.Errorf(messages.DroneHeld, "drone %s is not lost: it is heard, or was within the time that a lease lives. Stop it, and ask again when `jetway drones` says that it is lost", drone)
	}
	return event, messages.Errorf(messages.DroneHeld, "drone %s is lost, but %d of its backends have not ended yet: ask again in some seconds", drone, found[0].left)
}

// forgotten is what became of a drone that was to be forgotten.
type forgotten struct {
	lost  bool
	left  int
	event outbox.Row
}
