package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

func TestMigrateTwiceAndByTwoAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	ended := make(chan error)
	for range 2 {
		s := open(t, dsn)
		go func() { ended <- s.Migrate(t.Context()) }()
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error("one of two at once:", err)
		}
	}
	if err := open(t, dsn).Migrate(t.Context()); err != nil {
		t.Error("once more:", err)
	}
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.exec(`update jetway_schema_version set version = 99`)
	err := d.Migrate(t.Context())
	newer := new(store.NewerDatabaseError)
	if !errors.As(err, &newer) || newer.Database != 99 || newer.Binary < 1 {
		t.Fatalf("migrate: %v, want it refused as newer", err)
	}
	for _, part := range []string{"version 99", "run the newer jetway"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if v := one[int](d, `select version from jetway_schema_version`); v != 99 {
		t.Errorf("version is %d after the refusal, want 99", v)
	}
}
