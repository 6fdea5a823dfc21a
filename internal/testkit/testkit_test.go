package testkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/testkit"
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

func TestEachDatabaseIsFreshAndDropped(t *testing.T) {
	var dsns []string
	t.Run("in use", func(t *testing.T) {
		for range 2 {
			dsn := testkit.Postgres(t)
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
	c := testkit.OwnCluster(t)
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
	js, err := jetstream.New(testkit.Conn(t, testkit.NATS(t).URL()))
	if err != nil {
		t.Fatal(err)
	}
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
