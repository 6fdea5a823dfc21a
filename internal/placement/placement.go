// Package placement picks the drone for a backend: a pure function over a
// snapshot of the drones. The statement that takes the lease checks the pick
// once more, so a stale snapshot costs balance and a retry, never correctness.
package placement

import "slices"

// Drone is one drone in a snapshot. A drone that is not in it does not qualify:
// not ready, draining or not heard from within a third of a lease.
type Drone struct {
	Name    string
	Session string
	Cluster string
	Pool    string
	// MaxBackends, MaxMemoryBytes and MaxCPUMillis are what it takes at most; 0: no limit.
	MaxBackends    int
	MaxMemoryBytes int64
	MaxCPUMillis   int64
	// Backends is how many it said to have, and what was handed out since; MemoryBytes and
	// CPUMillis are what it said to have promised to its backends. What one more demands only the
	// drone knows. SaidAt is when, in microseconds by the database's clock.
	Backends    int
	MemoryBytes int64
	CPUMillis   int64
	SaidAt      int64
	// Refused says that it had no room for a backend, and has not spoken since.
	Refused bool
}

// Full says that the drone takes no more.
func (d *Drone) Full() bool {
	return d.Refused ||
		d.MaxBackends > 0 && d.Backends >= d.MaxBackends ||
		d.MaxMemoryBytes > 0 && d.MemoryBytes >= d.MaxMemoryBytes ||
		d.MaxCPUMillis > 0 && d.CPUMillis >= d.MaxCPUMillis
}

// Snapshot is the drones that qualify, by cluster and pool. It counts what it
// hands out. Not safe for use by several goroutines.
type Snapshot struct {
	groups map[group][]*Drone
	// given is how many were handed out to each drone of a session since it spoke.
	given map[*Drone]int
}

type group struct{ cluster, pool string }

// NewSnapshot sorts drones into groups. What an earlier snapshot, which may be nil, has
// handed out to a drone that has not spoken since counts on.
func NewSnapshot(drones []Drone, before *Snapshot) *Snapshot {
	s := &Snapshot{groups: make(map[group][]*Drone), given: make(map[*Drone]int)}
	given := before.unspoken()
	for i := range drones {
		d := &drones[i]
		g := group{d.Cluster, d.Pool}
		s.groups[g] = append(s.groups[g], d)
		if n := given[word{d.Session, d.SaidAt}]; n > 0 {
			d.Backends += n
			s.given[d] = n
		}
	}
	return s
}

// word is one heartbeat of a session.
type word struct {
	session string
	at      int64
}

func (s *Snapshot) unspoken() map[word]int {
	if s == nil {
		return nil
	}
	given := make(map[word]int, len(s.given))
	for d, n := range s.given {
		given[word{d.Session, d.SaidAt}] += n
	}
	return given
}

// GiveBack takes a pick back that came to nothing.
func (s *Snapshot) GiveBack(d *Drone) {
	d.Backends--
	s.given[d]--
}

// Pick chooses the less loaded of `choices` drones of the cluster and pool taken
// at random (1: at random; many: the least loaded), leaving out those that are named,
// and counts the backend on it. random gives a number in [0, n). False when no drone
// qualifies.
func (s *Snapshot) Pick(cluster, pool string, choices int, random func(n int) int, except ...string) (*Drone, bool) {
	all := s.groups[group{cluster, pool}]
	// Full drones go to the front and stay there: each is passed over once.
	first := 0
	for i, d := range all {
		if d.Full() || slices.Contains(except, d.Name) {
			all[i], all[first] = all[first], d
			first++
		}
	}
	free := all[first:]
	if len(free) == 0 {
		return nil, false
	}
	// A partial shuffle: the first `choices` are distinct and random.
	best := 0
	for i := range min(max(choices, 1), len(free)) {
		j := i + random(len(free)-i)
		free[i], free[j] = free[j], free[i]
		if free[i].Backends < free[best].Backends {
			best = i
		}
	}
	free[best].Backends++
	s.given[free[best]]++
	return free[best], true
}
