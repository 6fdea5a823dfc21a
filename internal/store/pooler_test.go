package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// through gives the DSN of a fresh database behind a PgBouncer.
func through(t *testing.T, mode string) string {
	t.Helper()
	dsn := pgtest.Database(t)
	host, port, _ := strings.Cut(pgtest.PgBouncer(t, mode), ":")
	return fmt.Sprintf("%s host=%s port=%s sslmode=disable", dsn, host, port)
}

// The demand: behind a pooler that gives each client a session of its own, everything works.
func TestPoolerThatKeepsSessionsWorks(t *testing.T) {
	t.Parallel()
	d := &db{Store: open(t, through(t, "session")), t: t}
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Error("ping:", err)
	}
	d.drone("dr-a")
	var asking sync.WaitGroup
	defer asking.Wait()
	for a := range 6 {
		asking.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("b-%d-%d", a, i)
				if _, _, err := d.Connect(t.Context(), []lease.Want{want("doc-"+id, id, "dr-a")}); err != nil {
					t.Errorf("connect: %v", err)
					return
				}
			}
		})
	}
}

// The demand: a pooler that does not is refused at the start, with what to do about it, instead of failing
// a part of the statements ever after.
func TestPoolerThatSharesSessionsIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dsn := through(t, mode)
			for range 20 { // whatever session comes first
				s := open(t, dsn)
				err := s.Migrate(t.Context())
				if !errors.Is(err, store.ErrPooled) || !strings.Contains(err.Error(), "pool_mode=session") {
					t.Fatalf("migrate: %v", err)
				}
				if kind := messages.KindOf(err); kind != "" {
					t.Fatalf("the kind is %s: a worker would try again for ever", kind)
				}
				s.Close()
			}
			s := open(t, dsn)
			testkit.Eventually(t, "statements are refused too", func() bool { return errors.Is(s.Ping(t.Context()), store.ErrPooled) })
		})
	}
}
