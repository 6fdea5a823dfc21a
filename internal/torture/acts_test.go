//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

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
