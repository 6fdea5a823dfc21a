//go:build linux

package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/dev/postgres"
)

// databaseClock is the clock by which Postgres lives, where libfaketime is installed: what
// stands in a file is added to the time.
type databaseClock struct {
	library string
	file    string // "" without the library
	dir     string
	stepped atomic.Bool
}

func newDatabaseClock(t *testing.T) *databaseClock {
	t.Helper()
	c := &databaseClock{}
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(found) == 0 {
		t.Log("the database's clock does not step, for there is no libfaketime: apt-get install faketime")
		return c
	}
	c.dir = socketDir(t)
	c.library, c.file = found[0], filepath.Join(c.dir, "clock")
	if err := os.Chmod(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.set(0); err != nil {
		t.Fatal(err)
	}
	return c
}

// wrap has Postgres go by the clock.
func (c *databaseClock) wrap(cfg *postgres.Config) {
	if c.file == "" {
		return
	}
	installed := cfg.Binaries.Dir
	programs, err := os.ReadDir(installed)
	for _, p := range programs {
		if p.Name() != "postgres" && err == nil {
			err = os.Symlink(filepath.Join(installed, p.Name()), filepath.Join(c.dir, p.Name()))
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "postgres"), fmt.Appendf(nil, `#!/bin/sh
LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 exec %s/postgres "$@"
`, c.library, c.file, installed), 0o755)
	}
	if err != nil {
		panic(err)
	}
	cfg.Binaries.Dir = c.dir
}

// set has the clock differ from the right one. Whoever reads finds all of the file.
func (c *databaseClock) set(by time.Duration) error {
	fresh := c.file + ".new"
	if err := os.WriteFile(fresh, fmt.Appendf(nil, "%+d\n", int(by.Seconds())), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, c.file)
}

func (s *system) setClock(by time.Duration) {
	s.pgClock.stepped.Store(true)
	if err := s.pgClock.set(by); err != nil {
		s.failf("harness: %v", err)
	}
}
