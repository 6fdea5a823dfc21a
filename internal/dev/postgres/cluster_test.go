package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/dev/postgres"
)

// The test binary is also a process that starts a cluster and is killed.
func TestMain(m *testing.M) {
	if d := os.Getenv("JETWAY_TEST_START"); d != "" {
		c, err := postgres.Start(context.Background(), postgres.Config{Dir: d, Ephemeral: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(c.DSN())
		select {}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(made.parent)
		os.Exit(code)
	}))
}

// made is a cluster that was made and has ended, to be copied: making one takes longer.
var made struct {
	once   sync.Once
	parent string
	err    error
}

func makeCluster() error {
	var err error
	if made.parent, err = os.MkdirTemp("", "jetway-pgtest-"); err != nil {
		return err
	}
	if err := os.Chmod(made.parent, 0o755); err != nil {
		return err
	}
	c, err := postgres.Start(context.Background(), postgres.Config{Dir: filepath.Join(made.parent, "pg"), Ephemeral: true})
	if err != nil {
		return err
	}
	return c.Stop(context.Background())
}

// clusterDir is a directory with a cluster that does not run.
func clusterDir(t *testing.T) string {
	t.Helper()
	made.once.Do(func() {
		if _, made.err = postgres.Ensure(t.Context(), os.Stderr); made.err == nil {
			made.err = makeCluster()
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	d := dir(t)
	// It keeps whose the files are.
	if said, err := exec.Command("cp", "-a", filepath.Join(made.parent, "pg"), d).CombinedOutput(); err != nil {
		t.Fatalf("copy a cluster: %v: %s", err, said)
	}
	return d
}

// dir is one that the server's unprivileged user can reach; t.TempDir is not, under root.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "jetway-pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return filepath.Join(d, "pg")
}

func start(t *testing.T, dir string) *postgres.Cluster {
	t.Helper()
	ctx := context.Background()
	b, err := postgres.Ensure(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Start(ctx, postgres.Config{Dir: dir, Binaries: b, Ephemeral: true, Log: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(ctx) })
	return c
}

func query(t *testing.T, c *postgres.Cluster, sql string) (text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), sql).Scan(&text); err != nil {
		t.Fatal(sql, ": ", err)
	}
	return text
}

func TestDataSurvivesStopCrashAndRestart(t *testing.T) {
	t.Parallel()
	d := clusterDir(t)
	c := start(t, d)
	conn, err := pgx.Connect(context.Background(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), "create table t (v text); insert into t values ('kept')"); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
	if err := c.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, c, "select v from t"); got != "kept" {
		t.Fatal(got)
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal("stopped twice: ", err)
	}
	if got := query(t, start(t, d), "select v from t"); got != "kept" {
		t.Fatal(got)
	}
}

func TestListensOnNoTCPPortAndIsNotRoot(t *testing.T) {
	t.Parallel()
	c := start(t, clusterDir(t))
	if got := query(t, c, "show listen_addresses"); got != "" {
		t.Errorf("listens on %q", got)
	}
	// The server's own word is not enough: look at the process.
	status, err := os.ReadFile("/proc/" + query(t, c, "select pg_backend_pid()::text") + "/status")
	if err == nil && os.Geteuid() == 0 && strings.Contains(string(status), "\nUid:\t0") {
		t.Error("runs as root")
	}
}

func TestKilledInitdbIsRedone(t *testing.T) {
	t.Parallel()
	d := dir(t)
	if err := os.MkdirAll(filepath.Join(d+".new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, d), "select 'ok'")
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	d := dir(t)
	if err := os.MkdirAll(filepath.Join(d, "holiday-pictures"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(context.Background(), postgres.Config{Dir: d, Ephemeral: true})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatal(err)
	}
}

func TestOtherVersionIsRefused(t *testing.T) {
	t.Parallel()
	d := dir(t)
	if err := os.MkdirAll(d, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(context.Background(), postgres.Config{Dir: d, Ephemeral: true})
	if err == nil || !strings.Contains(err.Error(), "made by Postgres 9") {
		t.Fatal(err)
	}
}

// A directory that the server's user cannot reach, as below /root, is no obstacle.
func TestUnreachableDirectoryIsLinked(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not root: the server runs as this user, which reaches what it made")
	}
	parent := filepath.Dir(dir(t))
	closed := filepath.Join(parent, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	d := filepath.Join(closed, "pg")
	c := start(t, d)
	query(t, c, "select 'ok'")
	if real, err := os.Readlink(d); err == nil {
		t.Cleanup(func() {
			for _, suffix := range []string{"", ".log", ".lock"} {
				_ = os.RemoveAll(real + suffix)
			}
		})
	} else if os.Geteuid() == 0 {
		t.Fatal(err)
	}
	_ = c.Stop(context.Background())
	query(t, start(t, d), "select 'again'")
}
