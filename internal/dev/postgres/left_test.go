package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	d := clusterDir(t)
	c := start(t, d)
	if _, err := postgres.Start(t.Context(), postgres.Config{Dir: d, Ephemeral: true}); !errors.Is(err, postgres.ErrInUse) {
		t.Fatal("started twice: ", err)
	}
	query(t, c, "select 'still here'")
}

// A killed process takes its server along; where it cannot, the next start does.
func TestServerOfAKilledProcessIsReplaced(t *testing.T) {
	t.Parallel()
	d := clusterDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "JETWAY_TEST_START="+d)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dsn, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err, cmd.Wait())
	}
	conn, err := pgx.Connect(t.Context(), strings.TrimSpace(dsn))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	query(t, start(t, d), "select 'ok'")
	// Its one connection ends, so the server did.
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the killed process's server still answers")
	}
}

// An orphan that outlived its parent's death is found by the file that it left.
func TestOrphanIsStopped(t *testing.T) {
	t.Parallel()
	d := clusterDir(t)
	c := start(t, d)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := postgres.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command(filepath.Join(b.Dir, "postgres"), "-D", d, "-c", "listen_addresses=", "-c", "unix_socket_directories="+d)
	orphan.Dir = "/"
	if info, err := os.Stat(d); err == nil && os.Geteuid() == 0 {
		st := info.Sys().(*syscall.Stat_t)
		orphan.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
	}
	log, err := orphan.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(log); !strings.Contains(lines.Text(), "ready to accept"); {
		if !lines.Scan() {
			t.Fatal("the orphan does not start: ", orphan.Wait())
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	query(t, start(t, d), "select 'ok'")
	t.Cleanup(func() { _ = orphan.Process.Kill() })
	_ = testkit.Receive(t, ended, "the orphan ends")
}

// After a reboot the number in a file left behind may be anybody's. It is neither
// signalled nor taken for a server.
func TestAnotherProcessWithTheNumberIsLeftAlone(t *testing.T) {
	t.Parallel()
	d := clusterDir(t)
	c := start(t, d)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%d\n%s\n1\n5432\n\n\n\n", os.Getpid(), d)
	if err := os.WriteFile(filepath.Join(d, "postmaster.pid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, d), "select 'ok'")
}

func TestDoneTellsOfADeath(t *testing.T) {
	t.Parallel()
	c := start(t, clusterDir(t))
	conn, err := pgx.Connect(t.Context(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	select {
	case <-c.Done():
		t.Fatal("done while it runs")
	default:
	}
	var pid int
	if err := conn.QueryRow(t.Context(), "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)::int").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, c.Done(), "it is told")
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, c, "select 'ok'")
}
