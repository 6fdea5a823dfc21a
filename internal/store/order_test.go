package store_test

import (
	"context"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// The package's word: all lock keys and backends in the order of their bytes, so that no two wait for each other. The
// database may compare names otherwise: in most languages "a" comes before "B".
func TestSpawnsLockInTheOrderOfBytesWhateverTheDatabasesLanguage(t *testing.T) {
	t.Parallel()
	d := newDBAt(t, pgtest.OfLanguage(t, "en-US"))
	d.drone("dr-a")
	d.spawn("a", "b-1", "dr-a")
	d.spawn("B", "b-2", "dr-a")
	const lock = `select from lease where name = $1 for no key update`
	const take = `insert into backend (id, namespace, name, tag, cluster, pool, drone, session, fencing_token, subdomain, static_token, status, due_at)
		values ($1, '', 'of another', '', '', '', 'dr-b', '', 0, '', '', 70, 'infinity')`
	for what, c := range map[string]struct {
		sql, first, second string
		wants              [2]string
		ids                [2]string
	}{
		"keys that are held": {lock, "B", "a", [2]string{"a", "B"}, [2]string{"x-1", "x-2"}},
		"ids":                {take, "X", "y", [2]string{"k-1", "k-2"}, [2]string{"y", "X"}},
	} {
		t.Run(what, func(t *testing.T) {
			ctx := context.Background()
			tx, err := d.raw.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(ctx) }()
			// Of two that wait for each other, it is the one that finds out.
			if _, err := tx.Exec(ctx, `set local deadlock_timeout = '1ms'`); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, c.sql, c.first); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, _, err := d.Connect(ctx, []lease.Want{want(c.wants[0], c.ids[0], "dr-a"), want(c.wants[1], c.ids[1], "dr-a")})
				ended <- err
			}()
			d.blocked(1)
			if _, err := tx.Exec(ctx, c.sql, c.second); err != nil {
				t.Errorf("a spawn that waits has locked the second: %v", err)
			}
			_ = tx.Rollback(ctx)
			if err := testkit.Receive(t, ended, "the spawn ends"); err != nil {
				t.Error(err)
			}
		})
	}
}
