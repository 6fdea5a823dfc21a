package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/testkit"
)

// Standby gives a replica of a cluster, which follows it until it is promoted.
func Standby(t testing.TB, primary *postgres.Cluster) *postgres.Cluster {
	t.Helper()
	ctx := testkit.Context(t)
	binaries, err := postgres.Ensure(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "pg")
	if said, err := exec.CommandContext(ctx, filepath.Join(binaries.Dir, "pg_basebackup"),
		"--pgdata", dir, "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", primary.DSN()).CombinedOutput(); err != nil {
		t.Fatalf("copy the primary: %v\n%s", err, said)
	}
	giveTo(t, dir, dataOwner(t, primary))
	c, err := start(dir)
	if err != nil {
		t.Fatal("start a standby: ", err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

// dataOwner gives the user whose a cluster's data are.
func dataOwner(t testing.TB, c *postgres.Cluster) *syscall.Stat_t {
	t.Helper()
	conn, err := pgx.Connect(testkit.Context(t), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var dir string
	if err := conn.QueryRow(testkit.Context(t), "show data_directory").Scan(&dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

func giveTo(t testing.TB, dir string, owner *syscall.Stat_t) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, int(owner.Uid), int(owner.Gid)) //nolint:gosec // a directory of the test's own
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// PgBouncer runs one in front of the shared cluster until the test ends and gives its address. mode is
// session, transaction or statement. It is left out where none is installed.
func PgBouncer(t testing.TB, mode string) (addr string) {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	for _, place := range []string{"/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if err != nil {
			path, err = exec.LookPath(place)
		}
	}
	if err != nil {
		testkit.LeaveOut(t, "tests of poolers take PgBouncer", "install pgbouncer")
	}
	cluster := Cluster(t)
	host, port, err := net.SplitHostPort(cluster.TCPAddr())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr = freeAddr(t)
	_, listen, _ := strings.Cut(addr, ":")
	ini := filepath.Join(dir, "pgbouncer.ini")
	err = os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=jetway
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = %s
max_client_conn = 200
default_pool_size = 20
`, host, port, listen, mode), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-q", ini)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if os.Geteuid() == 0 { // it does not run as root
		owner := dataOwner(t, cluster)
		giveTo(t, dir, owner)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal("start PgBouncer: ", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	testkit.Eventually(t, "PgBouncer takes connections", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatal("PgBouncer ended: ", err)
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Restore puts a dump in the place of what is in a database, under whoever uses it: as an operator does, again where Postgres ended it for a
// deadlock with one of those, which changes nothing.
func Restore(t testing.TB, dsn, dump string) {
	t.Helper()
	testkit.Eventually(t, "the dump is restored", func() bool {
		said, err := run(t, dsn, "pg_restore", "--clean", "--if-exists", "--single-transaction", dump)
		if err != nil && !strings.Contains(said, "deadlock detected") {
			t.Fatalf("pg_restore: %v: %s", err, said)
		}
		return err == nil
	})
}

// Program runs one of the programs that come with Postgres, on a database unless dsn is "".
func Program(t testing.TB, dsn, name string, args ...string) {
	t.Helper()
	if said, err := run(t, dsn, name, args...); err != nil {
		t.Fatalf("%s: %v: %s", name, err, said)
	}
}

func run(t testing.TB, dsn, name string, args ...string) (said string, err error) {
	t.Helper()
	bin, err := postgres.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if dsn != "" {
		words := slices.DeleteFunc(strings.Fields(dsn), func(word string) bool { // what is said to sessions by pgx alone
			name, _, _ := strings.Cut(word, "=")
			return !slices.Contains([]string{"host", "port", "user", "dbname", "sslmode"}, name)
		})
		args = append([]string{"-d", strings.Join(words, " ")}, args...)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin.Dir, name), args...).CombinedOutput()
	return string(out), err
}
