package metrics

import "github.com/prometheus/client_golang/prometheus"

// Fleet is what was read of drones, backends and proxies. All workers of a database read the same.
type Fleet struct {
	// Drones counts them by cluster, pool and state.
	Drones []Drones
	// Pools have what the drones of a pool, that take backends or would if they were not full, have and can have.
	Pools []PoolUse
	// Backends counts those that have not ended.
	Backends []Backends
	// Asleep are those of them that sleep.
	Asleep []Asleep
	// Proxies were heard lately.
	Proxies int
	// Spares are those of all drones that are heard, of each template.
	Spares []Spares
}

// Spares are those of one template. Claims and Misses are counted since the drones' agents started.
type Spares struct {
	Template        string
	Ready, Starting int
	Claims, Misses  int64
}

// Drones are those of one cluster and pool in one state.
type Drones struct {
	Cluster, Pool, State string
	Drones               int
}

// PoolUse is how much of one resource a pool's drones have given away, and how much they have: 0 where some have no limit.
type PoolUse struct {
	Cluster, Pool, Resource string
	Load, Capacity          float64
}

// Backends are those of one cluster with one status.
type Backends struct {
	Cluster, Status string
	Backends        int
}

// Asleep are the backends of one cluster that sleep.
type Asleep struct {
	Cluster  string
	Backends int
}

var (
	descAsleep       = desc("backends_asleep", "Backends of the database that sleep, by cluster.", "cluster")
	descDrones       = desc("drones", "Drones of the database by cluster, pool and state: ready, full, not-ready, draining, silent (not heard for a third of a lease) or lost.", "cluster", "pool", "state")
	descPoolLoad     = desc("pool_load", "What the drones of a pool that are ready or full have given away: backends, bytes of memory, processors.", "cluster", "pool", "resource")
	descPoolCapacity = desc("pool_capacity", "What the drones of a pool that are ready or full have in all; not there where one of them has no limit.", "cluster", "pool", "resource")
	descBackends     = desc("backends", "Backends of the database that have not ended, by cluster and status.", "cluster", "status")
	descSpares       = desc("spares", "Spares that the drones which are heard keep, by template and state: ready or starting.", "template", "state")
	descSpareClaims  = desc("spare_claims", "Backends that got a spare of a template, since the agents of the drones that are heard started.", "template")
	descSpareMisses  = desc("spare_misses", "Backends that named a template and started cold, since the agents of the drones that are heard started.", "template")
	descProxies      = desc("proxies", "Proxies that were heard within the time that a lease lives.")
)

var fleetDescs = []*prometheus.Desc{descDrones, descPoolLoad, descPoolCapacity, descBackends, descAsleep, descSpares, descSpareClaims, descSpareMisses, descProxies}

func (f *Fleet) collect(out chan<- prometheus.Metric) {
	if f == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, d := range f.Drones {
		gauge(descDrones, float64(d.Drones), d.Cluster, d.Pool, d.State)
	}
	for _, p := range f.Pools {
		gauge(descPoolLoad, p.Load, p.Cluster, p.Pool, p.Resource)
		if p.Capacity > 0 {
			gauge(descPoolCapacity, p.Capacity, p.Cluster, p.Pool, p.Resource)
		}
	}
	for _, b := range f.Backends {
		gauge(descBackends, float64(b.Backends), b.Cluster, b.Status)
	}
	for _, a := range f.Asleep {
		gauge(descAsleep, float64(a.Backends), a.Cluster)
	}
	for _, s := range f.Spares {
		gauge(descSpares, float64(s.Ready), s.Template, "ready")
		gauge(descSpares, float64(s.Starting), s.Template, "starting")
		gauge(descSpareClaims, float64(s.Claims), s.Template)
		gauge(descSpareMisses, float64(s.Misses), s.Template)
	}
	gauge(descProxies, float64(f.Proxies))
}
