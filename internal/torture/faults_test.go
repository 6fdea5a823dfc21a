//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is one fault that was done, from when to when.
type fault struct {
	kind, target string
	from, to     time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%9.3fs %9.3fs  %-18s %s", f.from.Seconds(), f.to.Seconds(), f.kind, f.target)
}

// kind is one sort of fault: how often it is chosen, and how it is done. do returns
// once all is as before again; it is given nothing when it finds nothing to do.
type kind struct {
	name   string
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
}

// faults does faults at random.
type faults struct {
	s *system
	// only, where not empty, are the kinds to choose from.
	only map[string]bool

	mu   sync.Mutex
	done []fault
	busy map[string]bool // processes, links and groups that a fault is at
	held sync.WaitGroup
}

func newFaults(s *system, only ...string) *faults {
	f := &faults{s: s, busy: map[string]bool{}, only: map[string]bool{}}
	for _, name := range only {
		f.only[name] = true
	}
	return f
}

// run does faults until ctx ends, up to three at a time, and waits until all is as before.
func (f *faults) run(ctx context.Context, random *rand.Rand) {
	slots := make(chan struct{}, 3)
	for ctx.Err() == nil {
		sleep(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
		k, own := f.choose(random), rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		f.held.Go(func() {
			defer func() { <-slots }()
			if k.alone != "" {
				if !f.take(k.alone) {
					return
				}
				defer f.giveBack(k.alone)
			}
			from := f.s.now()
			if target := k.do(f, ctx, own); target != "" {
				f.mu.Lock()
				f.done = append(f.done, fault{k.name, target, from, f.s.now()})
				f.mu.Unlock()
			}
		})
	}
	f.held.Wait()
}

func (f *faults) choose(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		if len(f.only) == 0 || f.only[k.name] {
			total += k.weight
		}
	}
	n := random.IntN(total)
	for _, k := range kinds {
		if len(f.only) > 0 && !f.only[k.name] {
			continue
		}
		if n -= k.weight; n < 0 {
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

// span is a length of time: mostly short, but often about as long as a lease lives,
// where what is wrong with deadlines shows.
func span(random *rand.Rand) time.Duration {
	if random.IntN(3) == 0 {
		return leaseTTL/2 + time.Duration(random.Int64N(int64(leaseTTL)))
	}
	return time.Duration(random.IntN(3000)) * time.Millisecond
}

func (f *faults) again(p *proc) {
	if err := p.start(); err != nil {
		f.s.failf("harness: %v", err)
	}
}

func (f *faults) killOne(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.workers, f.s.drones, f.s.proxies)
	if p == nil {
		return ""
	}
	defer release()
	p.end(syscall.SIGKILL)
	sleep(ctx, span(random))
	f.again(p)
	return p.name
}

func (f *faults) freezeOne(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.workers, f.s.drones, f.s.proxies)
	if p == nil {
		return ""
	}
	defer release()
	return freeze(ctx, p, span(random))
}

func freeze(ctx context.Context, p *proc, d time.Duration) string {
	p.signal(syscall.SIGSTOP)
	sleep(ctx, d)
	p.signal(syscall.SIGCONT)
	return fmt.Sprintf("%s for %s", p.name, d.Round(time.Millisecond))
}

// freezeWorkers stops all workers until leases have run out: what drones asked meanwhile
// is answered afterwards, by workers for which no time has passed.
func (f *faults) freezeWorkers(ctx context.Context, random *rand.Rand) string {
	for _, p := range f.s.workers {
		if !f.take(p.name) {
			return ""
		}
		defer f.giveBack(p.name)
	}
	d := leaseTTL + time.Duration(random.IntN(2000))*time.Millisecond
	for _, p := range f.s.workers {
		p.signal(syscall.SIGSTOP)
	}
	sleep(ctx, d)
	for _, p := range f.s.workers {
		p.signal(syscall.SIGCONT)
	}
	return fmt.Sprintf("all for %s", d.Round(time.Millisecond))
}

// restartAgent is what an upgrade does: no session may end of it.
func (f *faults) restartAgent(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.drones)
	if p == nil {
		return ""
	}
	defer release()
	p.end(syscall.SIGTERM)
	sleep(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	f.again(p)
	return p.name
}

// killAgent is a crash after which the agent is back at once.
func (f *faults) killAgent(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.drones)
	if p == nil {
		return ""
	}
	defer release()
	p.end(syscall.SIGKILL)
	sleep(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	f.again(p)
	return p.name
}

// killGuard kills the guard of a drone whose agent lives, which starts another.
func (f *faults) killGuard(_ context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.drones)
	if p == nil {
		return ""
	}
	defer release()
	for pid, command := range f.s.processes() {
		if strings.Contains(command, " guard ") && strings.Contains(command, filepath.Join(f.s.dir, p.name)) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return p.name
		}
	}
	return ""
}

func (f *faults) backend(random *rand.Rand) (life, bool) {
	running := f.s.register.running()
	if len(running) == 0 {
		return life{}, false
	}
	return f.s.register.of(running[random.IntN(len(running))].BackendID)
}

func (f *faults) freezeBackend(ctx context.Context, random *rand.Rand) string {
	l, ok := f.backend(random)
	if !ok || !f.take(l.BackendID) {
		return ""
	}
	defer f.giveBack(l.BackendID)
	_ = syscall.Kill(l.PID, syscall.SIGSTOP)
	sleep(ctx, span(random))
	if now, _ := f.s.register.of(l.BackendID); now.To == 0 {
		_ = syscall.Kill(l.PID, syscall.SIGCONT)
	}
	return l.BackendID
}

func (f *faults) killBackend(_ context.Context, random *rand.Rand) string {
	l, ok := f.backend(random)
	if !ok {
		return ""
	}
	_ = syscall.Kill(l.PID, syscall.SIGKILL)
	return l.BackendID
}

func (f *faults) killNode(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.nodes)
	if p == nil {
		return ""
	}
	defer release()
	p.end(syscall.SIGKILL)
	sleep(ctx, span(random))
	f.again(p)
	f.settle(ctx)
	return p.name
}

func (f *faults) wipeNode(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.nodes)
	if p == nil {
		return ""
	}
	defer release()
	p.end(syscall.SIGKILL)
	if err := f.s.wipe(p); err != nil {
		f.s.failf("harness: wipe %s: %v", p.name, err)
	}
	sleep(ctx, span(random))
	f.again(p)
	f.settle(ctx)
	return p.name
}

func (f *faults) freezeNode(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.nodes)
	if p == nil {
		return ""
	}
	defer release()
	what := freeze(ctx, p, span(random))
	f.settle(ctx)
	return what
}

// settle gives a node time to get what it has missed before the next one fails.
func (f *faults) settle(ctx context.Context) { sleep(ctx, 8*time.Second) }

func (f *faults) restartPostgres(ctx context.Context, random *rand.Rand) string {
	return f.postgres(ctx, random, "fast shutdown")
}

func (f *faults) crashPostgres(ctx context.Context, random *rand.Rand) string {
	return f.postgres(ctx, random, "immediate shutdown")
}

func (f *faults) postgres(ctx context.Context, random *rand.Rand, how string) string {
	if how == "fast shutdown" {
		if err := f.s.pg.Stop(context.Background()); err != nil {
			f.s.failf("harness: stop Postgres: %v", err)
		}
	} else {
		f.s.pg.Kill()
	}
	sleep(ctx, time.Duration(random.IntN(4000))*time.Millisecond)
	again, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.s.pg.Restart(again); err != nil {
		f.s.failf("harness: start Postgres again: %v", err)
	}
	return how
}

// duplicate has all that is on record published again: every action, every state.
func (f *faults) duplicate(context.Context, *rand.Rand) string {
	if f.s.audit.exec("update outbox set due_at = now()") != nil {
		return ""
	}
	return "all on record"
}

func (f *faults) fullDisk(ctx context.Context, random *rand.Rand) string {
	i := random.IntN(len(f.s.disks))
	d := f.s.disks[i]
	if !d.mounted || !f.take(d.dir) {
		return ""
	}
	defer f.giveBack(d.dir)
	if err := d.fill(); err != nil {
		f.s.failf("harness: %v", err)
	}
	sleep(ctx, span(random))
	if err := d.free(); err != nil {
		f.s.failf("harness: %v", err)
	}
	return f.s.drones[i].name
}
