package testkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// What the next test gets, too, is as a migrated database is: empty, with its sequences at
// the start, and nobody in it.
func TestDatabaseThatIsUsedAgainIsAsFresh(t *testing.T) {
	var first string
	state := func(conn *pgx.Conn) (rows, next int) {
		if err := conn.QueryRow(t.Context(), "select (select count(*) from outbox), nextval('outbox_id')").Scan(&rows, &next); err != nil {
			t.Fatal(err)
		}
		return rows, next
	}
	var left *pgx.Conn
	t.Run("first", func(t *testing.T) {
		first = pgtest.Database(t)
		conn := connect(t, first)
		if rows, next := state(conn); rows != 0 || next != 1 {
			t.Errorf("at first: %d rows, next is %d", rows, next)
		}
		if _, err := conn.Exec(t.Context(), `insert into outbox (id, kind, backend_id, drone) values (nextval('outbox_id'), 'state', 'b', 'd')`); err != nil {
			t.Fatal(err)
		}
		var err error
		if left, err = pgx.Connect(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	})
	if err := left.Ping(t.Context()); err == nil {
		t.Error("who was in it still is")
	}
	if dsn := pgtest.Database(t); dsn != first {
		t.Errorf("%s is not used again, but %s", first, dsn)
	}
	if rows, next := state(connect(t, first)); rows != 0 || next != 1 {
		t.Errorf("used again: %d rows, next is %d", rows, next)
	}
}

func TestDatabaseThatIsNotAsItWasIsDropped(t *testing.T) {
	var dsns []string
	t.Run("in use", func(t *testing.T) {
		for range 2 {
			dsn := pgtest.Database(t)
			dsns = append(dsns, dsn)
			if _, err := connect(t, dsn).Exec(t.Context(), "create table only_one_here ()"); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, dsn := range dsns {
		if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
			_ = conn.Close(t.Context())
			t.Error("not dropped: ", dsn)
		}
	}
}

func TestOwnClusterCanDieAndComeBackBehindAFaultyLink(t *testing.T) {
	t.Parallel()
	c := pgtest.OwnCluster(t)
	proxy := testkit.NewFaultProxy(t, c.TCPAddr())
	dsn := "postgres://jetway@" + proxy.Addr() + "/jetway?sslmode=disable"
	conn := connect(t, dsn)
	c.Kill()
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn = connect(t, dsn)
	proxy.Cut()
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("a cut link answers")
	}
}

func TestNATSHasJetStream(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.Conn(t, natstest.Server(t).URL()))
	if _, err := js.AccountInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEventuallyWaits(t *testing.T) {
	t.Parallel()
	due := time.Now().Add(30 * time.Millisecond)
	testkit.Eventually(t, "the time comes", func() bool { return time.Now().After(due) })
}

// Logging after a test's end would panic in the testing package.
func TestLoggerOutlivesItsTest(t *testing.T) {
	var late func()
	t.Run("ends", func(t *testing.T) {
		log := testkit.Logger(t)
		log.InfoContext(t.Context(), "in time")
		late = func() { log.InfoContext(context.Background(), "late") }
	})
	late()
}
