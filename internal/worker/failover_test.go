package worker_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// I7: while the database's address leads to a standby, a worker is not ready and says why; when the standby
// is promoted, it goes on there.
func TestI7FailoverUnderLoad(t *testing.T) {
	t.Parallel()
	primary := pgtest.OwnCluster(t)
	standby := pgtest.Standby(t, primary)
	w := newWorldOf(t, natstest.Server(t).URL(), primary.DSN())
	address := testkit.NewFaultProxy(t, primary.TCPAddr())
	host, port, err := net.SplitHostPort(address.Addr())
	must(t, err)
	s, change := show(t)
	startWorker(t, w, "wo-a", options{dsn: fmt.Sprintf("%s host=%s port=%s sslmode=disable", primary.DSN(), host, port), change: change})
	d := startDrone(t, w, "dr-a", w.url)
	s.awaitReady(http.StatusOK, "ready")
	l := startLoad(t, w, 4)
	granted := func(when string) {
		t.Helper()
		before := l.granted.Load()
		testkit.Eventually(t, when+": connects are granted", func() bool { return l.granted.Load() > before+testkit.Sized[int64](t, 10, 50) })
	}
	granted("at first")
	running := len(d.rt.Live())
	refused := l.refused.Load()
	address.Lead(standby.TCPAddr())
	address.Cut()
	address.Heal()
	s.awaitReady(http.StatusServiceUnavailable, "not ready: Postgres: the database takes no writes")
	testkit.Eventually(t, "connects are refused at once", func() bool { return l.refused.Load() > refused+testkit.Sized[int64](t, 100, 500) })
	must(t, primary.Stop(t.Context()))
	conn, err := pgx.Connect(testkit.Context(t), standby.DSN())
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(testkit.Context(t), "select pg_promote(true, 120)")
	must(t, err)
	s.awaitReady(http.StatusOK, "ready")
	// Nobody is given a key of which the promoted one may have forgotten the holder, until its operator says that
	// it has lost nothing, or a lease's time has passed.
	testkit.Eventually(t, "the operator says that nothing was lost", func() bool {
		done, err := conn.Exec(testkit.Context(t), "update setting set settled_home = h.id from home h where h.id like '%.00000002.%'")
		must(t, err)
		return done.RowsAffected() == 1
	})
	granted("after the failover")
	if n := len(d.rt.Live()); n < running {
		t.Errorf("of %d backends, %d run", running, n)
	}
	l.stop()
}
