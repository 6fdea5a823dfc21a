//go:build linux

package torture_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// What operators do to a system, as faults.

// replaceMachine has another machine come up under a drone's name, with nothing in its data
// directory, while the old one still runs: heard, cut off, or with its agent dead.
func (f *faults) replaceMachine(ctx context.Context, random *rand.Rand) string {
	return f.anotherMachine(ctx, random, false)
}

// copyMachine does it with a copy of the old one's data directory, as a cloned disk has it.
func (f *faults) copyMachine(ctx context.Context, random *rand.Rand) string {
	return f.anotherMachine(ctx, random, true)
}

func (f *faults) anotherMachine(ctx context.Context, random *rand.Rand, copied bool) string {
	old, release := f.pick(random, f.s.drones)
	if old == nil {
		return ""
	}
	defer release()
	links := "nats of " + old.name
	if !f.take(links) {
		return ""
	}
	defer f.giveBack(links)
	how := []string{"heard", "cut off", "half open", "agent dead"}[random.IntN(4)]
	switch how {
	case "cut off", "half open":
		for _, l := range old.links {
			if how == "cut off" {
				l.Cut()
			} else {
				l.Stall()
			}
		}
	case "agent dead":
		old.end(syscall.SIGKILL)
	}
	data := filepath.Join(f.s.dir, fmt.Sprintf("%s-other-%d", old.name, f.s.machines.Load()))
	if copied {
		// What is being written meanwhile, and sockets, are copied as well as they can be.
		_ = exec.Command("cp", "-a", filepath.Join(f.s.dir, old.name), data).Run()
	}
	sleep(ctx, f.upTo(random, 3*time.Second))
	other := f.s.newMachine(old, data)
	f.again(other)
	sleep(ctx, f.past(random, leaseTTL))
	switch how {
	case "agent dead":
		f.again(old)
	default:
		for _, l := range old.links {
			l.Heal()
		}
	}
	// Both are there, until the other one is switched off.
	sleep(ctx, f.upTo(random, leaseTTL))
	other.end([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[random.IntN(2)])
	return old.name + ", the old one " + how
}

// changeTTL has leases live for another time for a while.
func (f *faults) changeTTL(ctx context.Context, random *rand.Rand) string {
	ttl := []string{"16s", "20s", "30s", "45s"}[random.IntN(4)]
	for i, to := range []string{ttl, leaseTTL.String()} {
		if !f.command(ctx, "lease-ttl", to, "--postgres", f.s.pg.DSN()) && i == 0 {
			return "" // Postgres is away
		}
		if i == 0 {
			sleep(ctx, f.span(random))
		}
	}
	return ttl
}

// command runs one of jetway's own, until it is done or there is no more time.
func (f *faults) command(ctx context.Context, args ...string) bool {
	limit := time.Now().Add(testkit.Patience)
	for time.Now().Before(limit) {
		cmd := exec.Command(f.s.jetway, args...)
		said, err := cmd.CombinedOutput()
		if err == nil {
			return true
		}
		if ctx.Err() != nil && len(said) == 0 {
			return false
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return false
}

// holdSnapshot is a dump that takes its time: what is dead meanwhile cannot be removed.
func (f *faults) holdSnapshot(ctx context.Context, random *rand.Rand) string {
	dump, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	tx, err := f.s.audit.pool.BeginTx(dump, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return ""
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	// A dump locks each table like that.
	if _, err := tx.Exec(dump, "lock table backend, lease, session, drone, outbox, token in access share mode"); err != nil {
		return ""
	}
	var n int
	if tx.QueryRow(dump, "select count(*) from backend").Scan(&n) != nil {
		return ""
	}
	d := f.past(random, leaseTTL)
	sleep(ctx, d)
	return fmt.Sprintf("for %s", d.Round(time.Millisecond))
}

// list has six clients ask for all there is to list, without a pause.
func (f *faults) list(ctx context.Context, random *rand.Rand) string {
	ctx, cancel := context.WithTimeout(ctx, f.span(random))
	defer cancel()
	var asking sync.WaitGroup
	for range 6 {
		asking.Go(func() {
			for ctx.Err() == nil {
				_, _, _ = f.asker.ask(ctx, messages.SubjectBackends, messages.BackendsRequest{All: true}, 20*time.Second)
				_, _, _ = f.asker.ask(ctx, messages.SubjectDrones, messages.DronesRequest{}, 20*time.Second)
			}
		})
	}
	asking.Wait()
	return "by six"
}

// stepClock sets the database's clock forth or back, and sets it right again.
func (f *faults) stepClock(ctx context.Context, random *rand.Rand) string {
	by := 20*time.Second + time.Duration(random.Int64N(int64(40*time.Second)))
	if random.IntN(2) == 0 {
		by = -by
	}
	by = by.Round(time.Second)
	f.s.setClock(by)
	sleep(ctx, f.span(random))
	f.s.setClock(0)
	return by.String()
}

// failOver kills the database and promotes a replica that has not got the last commits: a copy
// of the database's files, on a timeline of its own, at the same address.
func (f *faults) failOver(ctx context.Context, random *rand.Rand) string {
	dir, err := query[string](f.s.audit, "show data_directory")
	if err != nil {
		return "" // it is away
	}
	replica := dir + ".replica"
	host, port, _ := net.SplitHostPort(f.s.pg.TCPAddr())
	said, err := exec.Command(filepath.Join(f.s.pgPrograms, "pg_basebackup"), "-D", replica, "-X", "stream", "-c", "fast",
		"-h", host, "-p", port, "-U", "jetway").CombinedOutput()
	if err != nil {
		f.s.failf("harness: copy the database: %v: %s", err, said)
		_ = os.RemoveAll(replica)
		return ""
	}
	behind := f.upTo(random, 3*time.Second)
	sleep(ctx, behind)
	f.s.pg.Kill()
	// It has all of the log that it ever gets, and begins a timeline of its own.
	err = errors.Join(
		os.WriteFile(filepath.Join(replica, "recovery.signal"), nil, 0o600),
		os.WriteFile(filepath.Join(replica, "postgresql.auto.conf"), []byte("restore_command = 'false'\n"), 0o600),
		exec.Command("chown", "-R", "--reference", dir, replica).Run(),
		os.RemoveAll(dir),
		os.Rename(replica, dir),
	)
	again, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err = errors.Join(err, f.s.pg.Restart(again)); err != nil {
		f.s.failf("harness: promote a replica: %v", err)
	}
	for again.Err() == nil { // it takes writes a moment later
		if replays, err := query[bool](f.s.audit, "select pg_is_in_recovery()"); err == nil && !replays {
			break
		}
		sleep(again, 50*time.Millisecond)
	}
	sleep(ctx, f.past(random, leaseTTL)) // until it is believed again
	return fmt.Sprintf("to a replica %s behind", behind.Round(time.Millisecond))
}

// loseQuorum ends two of the three nodes for longer than a heartbeat, or than a lease: no stream
// takes anything, while who is at the third asks and is answered.
func (f *faults) loseQuorum(ctx context.Context, random *rand.Rand) string {
	left := random.IntN(nodeCount)
	for i, p := range f.s.nodes {
		if i != left {
			if !f.take(p.name) {
				return ""
			}
			defer f.giveBack(p.name)
		}
	}
	d := leaseTTL/6 + f.upTo(random, 2*leaseTTL)
	if f.small {
		d = f.upTo(random, leaseTTL)
	}
	for i, p := range f.s.nodes {
		if i != left {
			p.end(syscall.SIGKILL)
		}
	}
	sleep(ctx, d)
	for i, p := range f.s.nodes {
		if i != left {
			f.again(p)
		}
	}
	f.settle(ctx)
	return fmt.Sprintf("but for %s, for %s", f.s.nodes[left].name, d.Round(time.Millisecond))
}
