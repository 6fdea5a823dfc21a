//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// What operators do to the database, as faults.

// restoreDump has the database be as it was some seconds ago, while all goes on: by the procedure of deploy/README.md.
// The audit is no part of it.
func (f *faults) restoreDump(ctx context.Context, random *rand.Rand) string {
	dump := filepath.Join(f.s.dir, "dump")
	defer os.Remove(dump)
	run := func(name string, args ...string) error {
		cmd, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		said, err := exec.CommandContext(cmd, filepath.Join(f.s.pgPrograms, name), append(args, "-d", f.s.pg.DSN())...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, said)
		}
		return nil
	}
	if err := run("pg_dump", "-Fc", "-N", "torture", "-f", dump); err != nil {
		f.s.failf("harness: %v", err)
		return ""
	}
	behind := f.upTo(random, 3*time.Second)
	sleep(ctx, behind)
	// What it waits for may wait for it: Postgres ends one of them.
	var err error
	for limit := time.Now().Add(testkit.Patience); time.Now().Before(limit); {
		if err = run("pg_restore", "--clean", "--if-exists", "--single-transaction", dump); err == nil {
			sleep(ctx, f.past(random, leaseTTL)) // until it is believed again
			return fmt.Sprintf("of %s before", behind.Round(time.Millisecond))
		}
		sleep(context.Background(), 50*time.Millisecond)
	}
	f.s.failf("harness: %v", err)
	return ""
}

// migrations are what a newer version may do to the database, as package migrations allows, and its undoing.
var migrations = [][]string{
	{
		"alter table backend add column of_later text not null default 'x'", "alter table session add column of_later int",
		"alter table lease add column of_later int", "alter table outbox add column of_later text not null default ''",
		"alter table drone add column of_later int", "alter table setting add column of_later int not null default 1",
		"alter table token add column of_later int", "alter table connection add column of_later int", "alter table proxy add column of_later int",
	},
	{"create index concurrently of_later on backend (drone, changed_at)"},
	{"drop index concurrently if exists of_later"},
	{
		"alter table backend drop column of_later", "alter table session drop column of_later", "alter table lease drop column of_later",
		"alter table outbox drop column of_later", "alter table drone drop column of_later", "alter table setting drop column of_later",
		"alter table token drop column of_later", "alter table connection drop column of_later", "alter table proxy drop column of_later",
	},
}

// migrate has a newer version migrate the database beside workers of this one, which run on for a while, and undoes it.
func (f *faults) migrate(ctx context.Context, random *rand.Rand) string {
	for i, step := range migrations {
		for _, sql := range step {
			if !f.giveWay(sql) {
				return ""
			}
		}
		if i == 1 {
			sleep(ctx, f.span(random))
		}
	}
	return "by columns and an index"
}

// giveWay runs a statement of a migration, which waits for nobody for long, for all who come after it wait for it.
func (f *faults) giveWay(sql string) bool {
	var err error
	for limit := time.Now().Add(testkit.Patience); time.Now().Before(limit); sleep(context.Background(), 100*time.Millisecond) {
		conn, fail := f.s.audit.pool.Acquire(context.Background())
		if err = fail; err != nil {
			continue // it is away
		}
		wait := "1s"
		if sql[:len("alter")] != "alter" {
			wait = "0" // for transactions that are open, while nobody waits for it
			_, _ = conn.Exec(context.Background(), "drop index concurrently if exists of_later")
		}
		_, err = conn.Exec(context.Background(), "set lock_timeout = '"+wait+"'")
		if err == nil {
			_, err = conn.Exec(context.Background(), sql)
		}
		_, _ = conn.Exec(context.Background(), "reset lock_timeout")
		conn.Release()
		if err == nil {
			return true
		}
	}
	f.s.failf("harness: migrate: %s: %v", sql, err)
	return false
}
