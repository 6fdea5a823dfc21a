package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// linked gives a store whose way to its database can fail. It counts as away when it does
// not accept a connection for so many seconds.
func linked(t *testing.T, awayAfter int) (*store.Store, *testkit.FaultProxy) {
	t.Helper()
	link := testkit.NewFaultProxy(t, pgtest.Cluster(t).TCPAddr())
	host, port, _ := strings.Cut(link.Addr(), ":")
	// The last of a word counts.
	dsn := fmt.Sprintf("%s host=%s port=%s sslmode=disable connect_timeout=%d", pgtest.Database(t), host, port, awayAfter)
	s, err := store.Open(t.Context(), store.Config{DSN: dsn, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, link
}

func asks(ctx context.Context, s *store.Store) error {
	_, _, err := s.Backend(ctx, "nobody")
	return err
}

// I8: a database that answers nothing any more, and refuses nothing, does not keep each
// statement until its deadline.
func TestI8HangingDatabaseIsUnavailableAtOnce(t *testing.T) {
	t.Parallel()
	s, link := linked(t, int(testkit.Patience.Seconds())/18) // on a slow machine too it takes less when it is there
	var failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for range 8 { // more than there are connections
		asking.Go(func() {
			for ctx.Err() == nil {
				// What would be waited for the deadline would be seen by the test's own.
				asked, cancel := context.WithTimeout(ctx, time.Hour)
				err := asks(asked, s)
				cancel()
				if err == nil || ctx.Err() != nil {
					continue
				}
				if messages.KindOf(err) != messages.Unavailable {
					t.Errorf("the error is %v", err)
					return
				}
				failed.Add(1)
				select { // who is told at once need not ask at once
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	faults := []func(){link.Stall, link.Cut, link.Stall}
	for _, fault := range faults[:testkit.Sized(t, 2, len(faults))] {
		before := failed.Load()
		fault()
		testkit.Eventually(t, "statements fail, one after the other", func() bool { return failed.Load() > before+testkit.Sized[int64](t, 200, 1000) })
		link.Heal()
		// None of the connections that were cut is left to fail: the first that
		// succeeds is not the only one.
		testkit.Eventually(t, "the database is back", func() bool { return asks(ctx, s) == nil })
		for range 50 {
			if err := asks(ctx, s); err != nil {
				t.Fatalf("after it came back: %v", err)
			}
		}
	}
}

// A statement that takes its time, on a lock, is no sign of a database that is away.
func TestSlowStatementIsNotCut(t *testing.T) {
	t.Parallel()
	s, link := linked(t, int(testkit.Patience.Seconds()))
	link.Delay(200 * time.Millisecond)
	for range 2 { // each longer than it takes to doubt that the database is there
		if err := s.Sleep(t.Context(), 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}
