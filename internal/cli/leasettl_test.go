package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// queried runs one query in a database.
func queried[T any](t *testing.T, dsn, sql string) (v T) {
	t.Helper()
	ctx := testkit.Context(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.QueryRow(ctx, sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// migrated makes the settings, as a worker does that starts.
func migrated(t *testing.T, dsn string) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Migrate(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
}

func TestLeaseTTLIsShownAndChanged(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	migrated(t, dsn)
	shows := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, code := jetway(t, append([]string{"lease-ttl", "--postgres", dsn}, args...)...)
		if wantCode(t, code, ExitOK); stdout != want+"\n" || stderr != "" {
			t.Errorf("%v says %q and %q, wanted %q", args, stdout, stderr, want)
		}
	}
	shows("leases live 1m0s")
	shows("leases live 20s from now on, and 1m0s until now; workers and drones take it within seconds", "20s")
	shows("leases live 20s")
	shows("leases live 20s", "20s")
	if ms := queried[int](t, dsn, `select lease_ttl_ms from setting`); ms != 20_000 {
		t.Errorf("the database says %d ms", ms)
	}
	for _, bad := range []string{"14s", "0s", "61m", "-20s"} {
		refused(t, ExitUsage, "DURATION: must be 15s to 1h", "lease-ttl", "--postgres", dsn, "--", bad)
	}
	refused(t, ExitUsage, "soon", "lease-ttl", "--postgres", dsn, "soon")
	refused(t, ExitUsage, "--postgres", "lease-ttl")
	refused(t, ExitUsage, "--postgres: ", "lease-ttl", "--postgres", "host")
	shows("leases live 20s")
}

// What is wrong with the database is said in Jetway's words, with what to do.
func TestLeaseTTLWithoutADatabaseSaysSo(t *testing.T) {
	t.Parallel()
	for dsn, c := range map[string]struct {
		code int
		want string
	}{
		pgtest.Empty(t):                              {ExitFailed, "jetway: the database has no tables of this version of Jetway yet: start a worker of this version on it"},
		"host=127.0.0.1 port=1 dbname=x user=x":      {ExitUnavailable, "jetway: the database cannot be reached (Unavailable): see that it runs"},
		pgtest.Database(t) + " dbname=there_is_none": {ExitFailed, "jetway: there is no such database, or it does not let us in: mend the database's name"},
	} {
		for _, args := range [][]string{nil, {"30s"}} {
			stdout, stderr, code := jetway(t, append([]string{"lease-ttl", "--postgres", dsn}, args...)...)
			if wantCode(t, code, c.code); !strings.HasPrefix(stderr, c.want) || strings.Contains(stderr, "SQLSTATE") || strings.Contains(stderr, "relation") || stdout != "" {
				t.Errorf("%s: it says %q and %q", dsn, stdout, stderr)
			}
		}
	}
}

// I1: a worker that is told another time to live than the database says so, and goes by the database, when it starts
// and while it runs. Found by restarting all workers with a shorter --lease-ttl: the end of leases moved back.
func TestI1WorkerGoesByTheTTLOfTheDatabase(t *testing.T) {
	t.Parallel()
	dsn, url := pgtest.Database(t), natstest.Server(t).URL()
	migrated(t, dsn)
	worker := begin(t, "--log-level=warn", "worker", "--nats", url, "--postgres", dsn, "--name", "wo-a", "--lease-ttl", "20s")
	worker.stderr.await(t, `it goes by the database, which the command lease-ttl changes[^\n]*"lease_ttl":"?(60000000000|1m0s)"?[^\n]*"told":"?(20000000000|20s)`)
	if _, stderr, code := jetway(t, "lease-ttl", "--postgres", dsn, "30s"); code != ExitOK {
		t.Fatal(stderr)
	}
	worker.stderr.await(t, `leases live longer or shorter from now on`)
	if ms := queried[int](t, dsn, `select lease_ttl_ms from setting`); time.Duration(ms)*time.Millisecond != 30*time.Second {
		t.Errorf("the database says %d ms", ms)
	}
	worker.stop()
	worker.ends(ExitOK)
}
