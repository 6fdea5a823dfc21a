package store_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// pair is a primary and its standby, of this test alone.
func pair(t *testing.T) (primary, standby *postgres.Cluster) {
	t.Helper()
	primary = pgtest.OwnCluster(t)
	s := open(t, primary.DSN())
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	return primary, pgtest.Standby(t, primary)
}

// at gives the DSN of a host:port, or of several.
func at(addrs ...string) string {
	var hosts, ports []string
	for _, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	return fmt.Sprintf("user=jetway dbname=jetway sslmode=disable host=%s port=%s", strings.Join(hosts, ","), strings.Join(ports, ","))
}

func promote(t *testing.T, c *postgres.Cluster) {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(testkit.Context(t), "select pg_promote(true, 120)"); err != nil {
		t.Fatal(err)
	}
}

// sessions counts those of a store at a server.
func sessions(t *testing.T, c *postgres.Cluster) (n int) {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(testkit.Context(t), "select count(*) from pg_stat_activity where application_name = 'jetway'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// writes says that the store writes, many times in a row and from several places at once.
func writes(t *testing.T, s *store.Store) bool {
	t.Helper()
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 5 {
				if err == nil {
					err = s.Ping(t.Context())
				}
			}
			done <- err
		}()
	}
	all := true
	for range 8 {
		all = testkit.Receive(t, done, "writes") == nil && all
	}
	return all
}

// I7: where a virtual address leads to a standby for a while, no connection stays there, and
// nobody is told that the database is ready meanwhile.
func TestI7NoSessionStaysAtAStandby(t *testing.T) {
	t.Parallel()
	primary, standby := pair(t)
	address := testkit.NewFaultProxy(t, primary.TCPAddr())
	s := open(t, at(address.Addr()))
	if !writes(t, s) {
		t.Fatal("the store does not write at first")
	}
	address.Lead(standby.TCPAddr())
	address.Cut()
	address.Heal()
	testkit.Eventually(t, "the store says why it cannot write", func() bool {
		err := s.Ping(t.Context())
		return messages.KindOf(err) == messages.Unavailable && strings.Contains(err.Error(), "takes no writes")
	})
	for range 20 { // and never that it can
		if s.Ping(t.Context()) == nil {
			t.Fatal("the ping of a standby shows no error")
		}
	}
	address.Lead(primary.TCPAddr())
	// Nothing is cut: what was let in at the standby would stay.
	testkit.Eventually(t, "the store writes again", func() bool { return writes(t, s) })
	testkit.Eventually(t, "no session is left at the standby", func() bool { return sessions(t, standby) == 0 })
}

// I7: a store that is given both hosts goes over to the promoted one by itself, also when the old one
// just hangs, and it comes back as a standby to which nobody returns.
func TestI7FailoverBetweenTheHostsOfOneAddress(t *testing.T) {
	t.Parallel()
	primary, standby := pair(t)
	way := testkit.NewFaultProxy(t, primary.TCPAddr())
	s := open(t, at(way.Addr(), standby.TCPAddr()))
	if !writes(t, s) || sessions(t, standby) != 0 {
		t.Fatal("the store does not write to the primary at first")
	}
	way.Stall()
	promote(t, standby)
	testkit.Eventually(t, "the store writes to the promoted one", func() bool { return writes(t, s) })
	if err := primary.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !writes(t, s) {
		t.Error("the store misses the old primary")
	}
}

// I8: the first of several hosts being down costs nothing: no session is made anew for it.
func TestI8HostThatIsDownCostsNoSessions(t *testing.T) {
	t.Parallel()
	cluster := pgtest.OwnCluster(t)
	way := testkit.NewFaultProxy(t, "127.0.0.1:1")
	for _, fault := range []struct {
		what  string
		begin func()
	}{{"refuses", way.Cut}, {"hangs", way.Stall}} {
		t.Run(fault.what, func(t *testing.T) {
			fault.begin()
			s := open(t, at(way.Addr(), cluster.TCPAddr()))
			testkit.Eventually(t, "the store writes", func() bool { return writes(t, s) })
			pids := func() string {
				conn, err := pgx.Connect(t.Context(), cluster.DSN())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				var pids string
				if err := conn.QueryRow(t.Context(), "select string_agg(pid::text, ' ' order by pid) from pg_stat_activity where application_name = 'jetway'").Scan(&pids); err != nil {
					t.Fatal(err)
				}
				return pids
			}
			before := pids()
			// Long enough for one that is doubted for a host that is down to be made anew.
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range testkit.Sized(t, 20, 150) {
				if err := s.Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
				<-tick.C
			}
			if after := pids(); after != before {
				t.Errorf("sessions before and after: %s, %s", before, after)
			}
			s.Close()
		})
	}
}
