package lease_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I7: that nobody holds a key is said of one that nobody holds, and not where it could not be found out. Found by reading:
// a batch in which others were joined, while the statement failed that notes that somebody joins an idle backend.
func TestI7HeldKeyIsNotSaidToBeUnheldWhenAStatementFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.connector(t)
	ctx := testkit.Context(t)
	idle := ask("idle", "", func(c *messages.SpawnConfig) { seconds := int64(86400); c.MaxIdleSeconds = &seconds })
	c.Connect(ctx, []lease.Request{ask("busy", "", nil), idle})
	pool, err := pgxpool.New(ctx, r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	holder, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.Background()) }()
	if _, err := pool.Exec(ctx, `update backend set last_keepalive_at = now() - interval '10 hours'`); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(ctx, `select from backend where name = 'idle' for update`); err != nil {
		t.Fatal(err)
	}
	got := make(chan []lease.Outcome, 1)
	go func() {
		outcomes, _ := c.Connect(ctx, []lease.Request{joinOnly("busy"), joinOnly("idle")})
		got <- outcomes
	}()
	waiting := func(since string) (at string) {
		_ = pool.QueryRow(ctx, `select query_start::text from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock' and query_start > $1::timestamptz`, since).Scan(&at)
		return at
	}
	var first string
	testkit.Eventually(t, "the visit waits", func() bool { first = waiting("-infinity"); return first != "" })
	if _, err := pool.Exec(ctx, `select pg_cancel_backend(pid) from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock'`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is tried again, or has been answered", func() bool { return waiting(first) != "" || len(got) > 0 })
	_ = holder.Rollback(ctx)
	for i, o := range testkit.Receive(t, got, "the batch is settled") {
		if brief(o) != "joined" {
			t.Errorf("request %d: %s: %v", i, brief(o), o.Err)
		}
	}
}
