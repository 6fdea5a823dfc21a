//go:build linux

package torture_test

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// link reserves the ways of one process, or one other link.
func (f *faults) link(random *rand.Rand) (name string, links []*testkit.FaultProxy, release func()) {
	switch n := random.IntN(10); {
	case n < 6:
		all := append(append([]*proc{}, f.s.workers...), f.s.proxies...)
		if n < 4 { // it is they who hold leases
			all = f.s.drones
		}
		p := all[random.IntN(len(all))]
		name, links = "nats of "+p.name, p.links
	case n < 8:
		i := random.IntN(len(f.s.database))
		name, links = "postgres of "+f.s.workers[i].name, f.s.database[i:i+1]
	case n < 9:
		i := random.IntN(len(f.s.routes))
		name, links = "others to "+f.s.nodes[i].name, f.s.routes[i:i+1]
	default:
		i := random.IntN(len(f.s.asking))
		name, links = "clients to "+f.s.nodes[i].name, f.s.asking[i:i+1]
	}
	if !f.take(name) {
		return "", nil, nil
	}
	return name, links, func() { f.giveBack(name) }
}

func (f *faults) cut(ctx context.Context, random *rand.Rand) string {
	return f.breakOne(ctx, random, (*testkit.FaultProxy).Cut)
}

// stall is a link that is half open: nothing goes through, and nobody is told.
func (f *faults) stall(ctx context.Context, random *rand.Rand) string {
	return f.breakOne(ctx, random, (*testkit.FaultProxy).Stall)
}

// isolateDrone breaks a drone's links for longer than its leases live: others get its keys.
func (f *faults) isolateDrone(ctx context.Context, random *rand.Rand) string {
	p := f.s.drones[random.IntN(len(f.s.drones))]
	name := "nats of " + p.name
	if !f.take(name) {
		return ""
	}
	defer f.giveBack(name)
	how := (*testkit.FaultProxy).Cut
	if random.IntN(2) == 0 {
		how = (*testkit.FaultProxy).Stall
	}
	broken(ctx, p.links, time.Second+f.past(random, 3*time.Second), how)
	return name
}

func (f *faults) slow(ctx context.Context, random *rand.Rand) string {
	delay := time.Duration(20+random.IntN(1000)) * time.Millisecond
	return f.breakOne(ctx, random, func(p *testkit.FaultProxy) { p.Delay(delay) })
}

func (f *faults) breakOne(ctx context.Context, random *rand.Rand, how func(*testkit.FaultProxy)) string {
	name, links, release := f.link(random)
	if name == "" {
		return ""
	}
	defer release()
	broken(ctx, links, f.span(random), how)
	return name
}

func broken(ctx context.Context, links []*testkit.FaultProxy, d time.Duration, how func(*testkit.FaultProxy)) {
	for _, l := range links {
		how(l)
	}
	sleep(ctx, d)
	for _, l := range links {
		l.Heal()
	}
}
