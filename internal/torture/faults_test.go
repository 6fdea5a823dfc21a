//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

// fault is one fault that was done, from when to when.
type fault struct {
	kind
	target   string
	from, to time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%9.3fs %9.3fs  %-18s %s", f.from.Seconds(), f.to.Seconds(), f.name, f.target)
}

// kind is one sort of fault: how often it is chosen, and how it is done. do returns
// once all is as before again; it is given nothing when it finds nothing to do.
type kind struct {
	name string
	// weight is 0 for what is done only when it is named: most checks do not hold then. A run that names it is about
	// it, see often.
	weight int
	// alone says that no other fault of the same group may be under way: two nodes
	// without their data would be a loss that nothing is promised for.
	alone string
	// mild says that no backend may be lost by it.
	mild bool
	do   func(f *faults, ctx context.Context, random *rand.Rand) (target string)
}

var kinds = []kind{
	{"kill", 16, "", false, (*faults).killOne},
	{"freeze", 10, "", false, (*faults).freezeOne},
	{"freeze workers", 2, "", false, (*faults).freezeWorkers},
	{"restart agent", 8, "agent", true, (*faults).restartAgent},
	{"kill agent", 6, "", true, (*faults).killAgent},
	{"kill guard", 2, "agent", true, (*faults).killGuard},
	{"freeze backend", 4, "", false, (*faults).freezeBackend},
	{"kill backend", 6, "", true, (*faults).killBackend},
	{"kill node", 4, "node", false, (*faults).killNode},
	{"wipe node", 2, "node", false, (*faults).wipeNode},
	{"freeze node", 2, "node", false, (*faults).freezeNode},
	{"restart postgres", 3, "postgres", false, (*faults).restartPostgres},
	{"crash postgres", 3, "postgres", false, (*faults).crashPostgres},
	{"cut", 10, "", false, (*faults).cut},
	{"stall", 10, "", false, (*faults).stall},
	{"slow", 6, "", false, (*faults).slow},
	{"isolate drone", 3, "isolated drone", false, (*faults).isolateDrone},
	{"duplicate", 6, "", true, (*faults).duplicate},
	{"full disk", 4, "", false, (*faults).fullDisk},
	{"replace machine", 4, "machine", false, (*faults).replaceMachine},
	{"copy machine", 2, "machine", false, (*faults).copyMachine},
	{"change ttl", 3, "ttl", false, (*faults).changeTTL},
	{"hold snapshot", 2, "snapshot", true, (*faults).holdSnapshot},
	{"list", 3, "list", false, (*faults).list},
	{"step clock", 2, "clock", false, (*faults).stepClock},
	{"fail over", 0, "postgres", false, (*faults).failOver},
	{"restore dump", 0, "postgres", false, (*faults).restoreDump},
	{"migrate", 2, "postgres", true, (*faults).migrate},
	{"lose quorum", 2, "node", false, (*faults).loseQuorum},
}

// faults does faults at random.
type faults struct {
	s     *system
	asker *asker
	// only, where not empty, are the kinds to choose from.
	only map[string]bool
	// small has each kind done once, and each for a moment.
	small bool

	mu   sync.Mutex
	done []fault
	busy map[string]bool // processes, links and groups that a fault is at
	held sync.WaitGroup
}

func newFaults(s *system, asker *asker, only ...string) *faults {
	f := &faults{s: s, asker: asker, busy: map[string]bool{}, only: map[string]bool{}}
	for _, name := range only {
		f.only[name] = true
	}
	return f
}

// run does faults until ctx ends, or each once, up to three at a time, and waits until all
// is as before.
func (f *faults) run(ctx context.Context, random *rand.Rand) {
	slots := make(chan struct{}, 3)
	for k := range f.sequence(ctx, random) {
		sleep(ctx, f.upTo(random, 1500*time.Millisecond))
		own := rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		f.held.Go(func() {
			defer func() { <-slots }()
			for !f.try(ctx, k, own) && f.small && ctx.Err() == nil {
				sleep(ctx, 100*time.Millisecond) // until there is something to do it to
			}
		})
	}
	f.held.Wait()
}

// sequence chooses kinds of faults.
func (f *faults) sequence(ctx context.Context, random *rand.Rand) iter.Seq[kind] {
	return func(yield func(kind) bool) {
		if !f.small {
			for ctx.Err() == nil && yield(f.choose(random)) {
			}
			return
		}
		node := false // one is enough of those that a node takes its time after
		for _, i := range random.Perm(len(kinds)) {
			k := kinds[i]
			if !f.allows(k) || node && k.alone == "node" {
				continue
			}
			node = node || k.alone == "node"
			if !yield(k) {
				return
			}
		}
	}
}

// try does a fault, and says whether it found something to do it to.
func (f *faults) try(ctx context.Context, k kind, random *rand.Rand) bool {
	if k.alone != "" {
		if !f.take(k.alone) {
			return false
		}
		defer f.giveBack(k.alone)
	}
	from := f.s.now()
	target := k.do(f, ctx, random)
	if target == "" {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, fault{k, target, from, f.s.now()})
	return true
}

// allows says whether a kind is to be chosen from.
func (f *faults) allows(k kind) bool {
	if k.alone == "machine" && !canMakeMachines() {
		return false
	}
	if k.alone == "clock" && f.s.pgClock.file == "" {
		return false
	}
	if f.small && k.name == "full disk" && !f.s.disks[0].mounted {
		return false
	}
	return len(f.only) == 0 && k.weight > 0 || f.only[k.name]
}

// often is how often a kind is chosen.
func (k kind) often() int {
	if k.weight == 0 {
		return 12
	}
	return k.weight
}

func (f *faults) choose(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		if f.allows(k) {
			total += k.often()
		}
	}
	n := random.IntN(total)
	for _, k := range kinds {
		if !f.allows(k) {
			continue
		}
		if n -= k.often(); n < 0 {
			return k
		}
	}
	panic("unreachable")
}

// take reserves something for one fault.
func (f *faults) take(what string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[what] {
		return false
	}
	f.busy[what] = true
	return true
}

func (f *faults) giveBack(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, what)
}

// pick reserves one of some processes.
func (f *faults) pick(random *rand.Rand, groups ...[]*proc) (*proc, func()) {
	var all []*proc
	for _, group := range groups {
		all = append(all, group...)
	}
	p := all[random.IntN(len(all))]
	if !f.take(p.name) {
		return nil, nil
	}
	return p, func() { f.giveBack(p.name) }
}

// upTo is a length of time below a limit.
func (f *faults) upTo(random *rand.Rand, limit time.Duration) time.Duration {
	if f.small {
		limit /= 5
	}
	return time.Duration(random.Int64N(int64(limit)))
}

// span is a length of time: mostly short, but often about as long as a lease lives,
// where what is wrong with deadlines shows.
func (f *faults) span(random *rand.Rand) time.Duration {
	if !f.small && random.IntN(3) == 0 {
		return leaseTTL/2 + time.Duration(random.Int64N(int64(leaseTTL)))
	}
	return f.upTo(random, 3*time.Second)
}

// past is longer than leases live, by at most so much.
func (f *faults) past(random *rand.Rand, limit time.Duration) time.Duration {
	if f.small {
		return f.upTo(random, limit)
	}
	return leaseTTL + f.upTo(random, limit)
}
