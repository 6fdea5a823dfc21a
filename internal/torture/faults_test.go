//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
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
	// small has each kind done once, and each for a moment.
	small bool

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
	f.done = append(f.done, fault{k.name, target, from, f.s.now()})
	return true
}

// allows says whether a kind is to be chosen from.
func (f *faults) allows(k kind) bool {
	if f.small && k.name == "full disk" && !f.s.disks[0].mounted {
		return false
	}
	return len(f.only) == 0 || f.only[k.name]
}

func (f *faults) choose(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		if f.allows(k) {
			total += k.weight
		}
	}
	n := random.IntN(total)
	for _, k := range kinds {
		if !f.allows(k) {
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
	sleep(ctx, f.span(random))
	f.again(p)
	return p.name
}

func (f *faults) freezeOne(ctx context.Context, random *rand.Rand) string {
	p, release := f.pick(random, f.s.workers, f.s.drones, f.s.proxies)
	if p == nil {
		return ""
	}
	defer release()
	return freeze(ctx, p, f.span(random))
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
	d := f.past(random, 2*time.Second)
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
	sleep(ctx, f.upTo(random, time.Second))
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
	sleep(ctx, f.upTo(random, time.Second))
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
	sleep(ctx, f.span(random))
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
	sleep(ctx, f.span(random))
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
	sleep(ctx, f.span(random))
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
	what := freeze(ctx, p, f.span(random))
	f.settle(ctx)
	return what
}

// settle waits until a node has what it has missed, before the next one fails.
func (f *faults) settle(ctx context.Context) {
	if !f.small {
		sleep(ctx, 8*time.Second)
	}
	for ctx.Err() == nil && !f.s.audit.nodesAgree(ctx) {
		sleep(ctx, 200*time.Millisecond)
	}
}

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
	sleep(ctx, f.upTo(random, 4*time.Second))
	again, cancel := context.WithTimeout(context.Background(), testkit.Patience)
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
	sleep(ctx, f.span(random))
	if err := d.free(); err != nil {
		f.s.failf("harness: %v", err)
	}
	return f.s.drones[i].name
}
