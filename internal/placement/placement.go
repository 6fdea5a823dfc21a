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
	// Spares is how many it said to have ready, by template.
	Spares map[string]int
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
	// given is how many were handed out to each drone of a session since it spoke, by what they were wanted of: a template, or "".
	given map[*Drone]map[string]int
}

type group struct{ cluster, pool string }

// Want is what a drone is wanted for.
type Want struct {
	Cluster, Pool string
	// Template is what the backend is asked for by, "" for none: a drone that has a spare of it is preferred.
	Template string
}

// NewSnapshot sorts drones into groups. What an earlier snapshot, which may be nil, has
// handed out to a drone that has not spoken since counts on.
func NewSnapshot(drones []Drone, before *Snapshot) *Snapshot {
	s := &Snapshot{groups: make(map[group][]*Drone), given: make(map[*Drone]map[string]int)}
	given := before.unspoken()
	for i := range drones {
		d := &drones[i]
		g := group{d.Cluster, d.Pool}
		s.groups[g] = append(s.groups[g], d)
		for template, n := range given[word{d.Session, d.SaidAt}] {
			if n > 0 {
				s.give(d, template, n)
			}
		}
	}
	return s
}

// word is one heartbeat of a session.
type word struct {
	session string
	at      int64
}

func (s *Snapshot) unspoken() map[word]map[string]int {
	if s == nil {
		return nil
	}
	given := make(map[word]map[string]int, len(s.given))
	for d, by := range s.given {
		w := word{d.Session, d.SaidAt}
		if given[w] == nil {
			given[w] = make(map[string]int)
		}
		for template, n := range by {
			given[w][template] += n
		}
	}
	return given
}

// give counts n more on a drone.
func (s *Snapshot) give(d *Drone, template string, n int) {
	d.Backends += n
	if s.given[d] == nil {
		s.given[d] = make(map[string]int)
	}
	s.given[d][template] += n
}

// GiveBack takes a pick for a template, or "", back that came to nothing.
func (s *Snapshot) GiveBack(d *Drone, template string) { s.give(d, template, -1) }

// spare says whether a drone has a spare of the template that was not handed out since it spoke.
func (s *Snapshot) spare(d *Drone, template string) bool {
	return template != "" && d.Spares[template] > s.given[d][template]
}

// Pick chooses the less loaded of `choices` drones of the cluster and pool taken
// at random (1: at random; many: the least loaded), but one that has a spare of the template before one that has
// none. It leaves out those that are named,
// and counts the backend on it. random gives a number in [0, n). False when no drone
// qualifies.
func (s *Snapshot) Pick(want Want, choices int, random func(n int) int, except ...string) (*Drone, bool) {
	all := s.groups[group{want.Cluster, want.Pool}]
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
	best, spared := 0, false
	for i := range min(max(choices, 1), len(free)) {
		j := i + random(len(free)-i)
		free[i], free[j] = free[j], free[i]
		spare := s.spare(free[i], want.Template)
		if i == 0 || spare && !spared || spare == spared && free[i].Backends < free[best].Backends {
			best, spared = i, spare
		}
	}
	s.give(free[best], want.Template, 1)
	return free[best], true
}
