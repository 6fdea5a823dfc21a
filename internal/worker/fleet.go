package worker

import (
	"context"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// fleetShare is how much longer the pause between two looks at the fleet is than a look: it reads all live backends, so of
// very many it is not for the metrics to keep Postgres busy.
const fleetShare = 50

// watchFleet reads for the metrics what the database knows of drones and backends now and then. While it cannot be read
// there is nothing, rather than what was.
func (w *worker) watchFleet(ctx context.Context) {
	for {
		began := time.Now()
		w.readFleet(ctx)
		pause := time.NewTimer(max(backlogEvery, fleetShare*time.Since(began)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

func (w *worker) readFleet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backlogEvery)
	defer cancel()
	groups, err := w.store.Fleet(ctx)
	var live []store.Live
	var proxies int
	if err == nil {
		live, proxies, err = w.store.Live(ctx)
	}
	var spares []store.SpareCounts
	if err == nil {
		spares, err = w.store.SpareCounts(ctx)
	}
	if err != nil {
		w.fleet.Store(nil)
		w.log.Debug("cannot read the fleet for the metrics", "err", err)
		return
	}
	fleet := fleetOf(groups, live, proxies)
	for _, s := range spares {
		fleet.Spares = append(fleet.Spares, metrics.Spares(s))
	}
	w.fleet.Store(fleet)
}

// fleetOf puts together what the metrics show. Each state and status that a cluster has none of is shown as 0.
func fleetOf(groups []placement.Group, live []store.Live, proxies int) *metrics.Fleet {
	fleet := &metrics.Fleet{Proxies: proxies}
	type pool struct{ cluster, name string }
	type use struct {
		load     messages.Load
		capacity messages.Capacity
		limited  placement.Limited
		drones   int
	}
	counts, uses := make(map[pool]map[placement.State]int), make(map[pool]*use)
	for i := range groups {
		g := &groups[i]
		p := pool{g.Cluster, g.Pool}
		if counts[p] == nil {
			counts[p], uses[p] = make(map[placement.State]int), new(use)
		}
		counts[p][g.State] += g.Drones
		if u := uses[p]; g.State == placement.Ready || g.State == placement.Full {
			u.drones += g.Drones
			u.load.Backends += g.Load.Backends
			u.load.MemoryBytes += g.Load.MemoryBytes
			u.load.CPUMillis += g.Load.CPUMillis
			u.capacity.MaxBackends += g.Capacity.MaxBackends
			u.capacity.MaxMemoryBytes += g.Capacity.MaxMemoryBytes
			u.capacity.MaxCPUMillis += g.Capacity.MaxCPUMillis
			u.limited.Backends += g.Limited.Backends
			u.limited.Memory += g.Limited.Memory
			u.limited.CPU += g.Limited.CPU
		}
	}
	for p, states := range counts {
		for _, state := range []placement.State{placement.Ready, placement.Full, placement.NotReady, placement.Draining, placement.Silent, placement.Lost} {
			fleet.Drones = append(fleet.Drones, metrics.Drones{Cluster: p.cluster, Pool: p.name, State: string(state), Drones: states[state]})
		}
		u := uses[p]
		add := func(resource string, load, capacity float64, limited int) {
			if limited < u.drones {
				capacity = 0
			}
			fleet.Pools = append(fleet.Pools, metrics.PoolUse{Cluster: p.cluster, Pool: p.name, Resource: resource, Load: load, Capacity: capacity})
		}
		add("backends", float64(u.load.Backends), float64(u.capacity.MaxBackends), u.limited.Backends)
		add("memory", float64(u.load.MemoryBytes), float64(u.capacity.MaxMemoryBytes), u.limited.Memory)
		add("cpus", float64(u.load.CPUMillis)/1000, float64(u.capacity.MaxCPUMillis)/1000, u.limited.CPU)
	}
	of := make(map[string]map[messages.Status]int)
	for p := range counts {
		of[p.cluster] = make(map[messages.Status]int)
	}
	asleep := make(map[string]int)
	for _, l := range live {
		asleep[l.Cluster] += l.Asleep
		if of[l.Cluster] == nil {
			of[l.Cluster] = make(map[messages.Status]int)
		}
		of[l.Cluster][l.Status] += l.Backends
	}
	for cluster, statuses := range of {
		fleet.Asleep = append(fleet.Asleep, metrics.Asleep{Cluster: cluster, Backends: asleep[cluster]})
		for _, status := range messages.Statuses {
			if status != messages.Terminated {
				fleet.Backends = append(fleet.Backends, metrics.Backends{Cluster: cluster, Status: status.String(), Backends: statuses[status]})
			}
		}
	}
	return fleet
}
