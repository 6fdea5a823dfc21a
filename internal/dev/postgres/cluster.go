package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says where the cluster lives. Dir is required.
type Config struct {
	// Dir is the data directory; made if it is not there. Its parent gets the log.
	Dir string
	// Binaries are the server's programs; found when empty.
	Binaries Binaries
	// Ephemeral survives a crash of the server but not of the machine, for
	// speed: for tests only.
	Ephemeral bool
	// TCP also listens on a free port of 127.0.0.1, without a password: for
	// tests that put a proxy in front.
	TCP bool
	Log *slog.Logger
}

// The superuser and database that a new cluster has.
const (
	superuser = "jetway"
	database  = "jetway"
)

const (
	startTimeout = 60 * time.Second // crash recovery may take a while
	fastTimeout  = 5 * time.Second
)

// Cluster is a running server.
type Cluster struct {
	cfg       Config
	dir       string // the real data directory
	socketDir string
	account   *account
	port      int // TCP; also names the socket

	mu   sync.Mutex // guards cmd and done over Restart
	cmd  *exec.Cmd
	done chan struct{}
}

// Start makes the cluster if it is new and runs it until Stop. ctx bounds the
// start only.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Binaries == (Binaries{}) {
		b, err := Find(ctx)
		if err != nil {
			return nil, err
		}
		cfg.Binaries = b
	}
	c := &Cluster{cfg: cfg, port: 5432}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		_ = os.RemoveAll(c.socketDir)
		return nil, err
	}
	return c, nil
}

// prepare makes the directories and the cluster and ends what an earlier, killed
// process left running in it.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.account, err = serverAccount(); err != nil {
		return err
	}
	if c.dir, err = filepath.Abs(c.cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return fmt.Errorf("make the directory for the database: %w", err)
	}
	if !c.account.reaches(c.dir) {
		if c.dir, err = elsewhere(c.dir, c.cfg.Log); err != nil {
			return err
		}
	}
	if err := c.init(ctx); err != nil {
		return err
	}
	c.endStale()
	if c.cfg.TCP {
		if c.port, err = freePort(); err != nil {
			return err
		}
	}
	// Short, for a socket's path has at most 107 bytes.
	if c.socketDir, err = os.MkdirTemp("/tmp", "jetway-pg-"); err != nil {
		return err
	}
	return c.account.own(c.socketDir)
}

// init makes the cluster beside its place and moves it there when it is whole, so
// that a killed initdb leaves nothing that looks like one.
func (c *Cluster) init(ctx context.Context) error {
	have, err := os.ReadFile(filepath.Join(c.dir, "PG_VERSION"))
	if err == nil {
		if v := strings.TrimSpace(string(have)); v != strconv.Itoa(c.cfg.Binaries.Version) {
			return fmt.Errorf("%s was made by Postgres %s, the one found here is %d: install that version, or move the directory away", c.cfg.Dir, v, c.cfg.Binaries.Version)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the database's version: %w", err)
	}
	if entries, err := os.ReadDir(c.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty and holds no Postgres cluster: move it away or choose another directory", c.cfg.Dir)
	}
	fresh := c.dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make the database's directory: %w", err)
	}
	if err := c.account.own(fresh); err != nil {
		return err
	}
	args := []string{"-D", fresh, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C"}
	if c.cfg.Ephemeral {
		args = append(args, "--no-sync")
	}
	cmd := c.command(ctx, "initdb", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the database with initdb: %w\n%s", err, tail(string(out), 2000))
	}
	_ = os.Remove(c.dir) // an empty directory
	return os.Rename(fresh, c.dir)
}

// endStale stops a server that a killed process left in this data directory.
func (c *Cluster) endStale() {
	if _, err := os.Stat(filepath.Join(c.dir, "postmaster.pid")); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*fastTimeout)
	defer cancel()
	if err := c.command(ctx, "pg_ctl", "-D", c.dir, "-m", "fast", "-w", "stop").Run(); err == nil {
		c.cfg.Log.Warn("stopped the database server that an earlier run had left", "dir", c.dir)
	}
}

// command runs one of the server's programs as the server's user.
func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Binaries.Dir, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	if c.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.account.uid, Gid: c.account.gid}}
	}
	return cmd
}

func (c *Cluster) run(ctx context.Context) error {
	settings := map[string]string{
		"unix_socket_directories": c.socketDir, "unix_socket_permissions": "0777", // its directory is private
		"listen_addresses": "", "port": strconv.Itoa(c.port), "max_connections": "200",
		"shared_buffers": "128MB", "max_wal_size": "1GB", "jit": "off", "logging_collector": "off",
		"timezone": "UTC", "log_timezone": "UTC", "autovacuum_naptime": "10s",
	}
	if c.cfg.TCP {
		settings["listen_addresses"] = "127.0.0.1"
	}
	if c.cfg.Ephemeral {
		for _, name := range []string{"fsync", "full_page_writes"} {
			settings[name] = "off"
		}
	}
	args := []string{"-D", c.dir}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	logPath := filepath.Join(filepath.Dir(c.dir), filepath.Base(c.dir)+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open the database's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.cfg.Binaries.Dir, "postgres"), args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr(c.account)

	done := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		// The parent-death signal comes when the thread that started the child
		// ends, so this one stays until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	c.mu.Lock()
	c.cmd, c.done = cmd, done
	c.mu.Unlock()
	if err := c.awaitReady(ctx, done); err != nil {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		<-done
		said, _ := os.ReadFile(logPath)
		return fmt.Errorf("start Postgres: %w; its last words:\n%s", err, tail(string(said), 1500))
	}
	return nil
}

// awaitReady connects until the server takes connections, and makes the database.
func (c *Cluster) awaitReady(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dsn := c.dsn("postgres")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
			var exists bool
			if err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", database).Scan(&exists); err == nil && !exists {
				_, err = conn.Exec(ctx, "create database "+database)
			}
			return err
		}
		select {
		case <-done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// DSN is how to connect as the superuser.
func (c *Cluster) DSN() string { return c.dsn(database) }

func (c *Cluster) dsn(name string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", c.socketDir, c.port, superuser, name)
}

// TCPAddr is host:port, with Config.TCP.
func (c *Cluster) TCPAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// Done is closed when the server has ended, by Stop or by itself.
func (c *Cluster) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Stop shuts down fast, and past five seconds or the end of ctx at once. Twice
// does no harm. The data stays; the sockets go.
func (c *Cluster) Stop(ctx context.Context) error {
	defer os.RemoveAll(c.socketDir)
	c.signal(syscall.SIGINT)
	select {
	case <-c.Done():
		return nil
	case <-time.After(fastTimeout):
	case <-ctx.Done():
	}
	c.Kill()
	return nil
}

// Kill ends the server at once, as a crash would: the next start recovers.
func (c *Cluster) Kill() {
	c.signal(syscall.SIGQUIT)
	select {
	case <-c.Done():
	case <-time.After(fastTimeout):
		c.signal(syscall.SIGKILL)
		<-c.Done()
	}
}

// Restart starts a stopped or killed server again at the same address.
func (c *Cluster) Restart(ctx context.Context) error {
	c.Kill()
	if err := os.MkdirAll(c.socketDir, 0o700); err != nil {
		return err
	}
	if err := c.account.own(c.socketDir); err != nil {
		return err
	}
	return c.run(ctx)
}

func (c *Cluster) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.cmd.Process.Signal(sig) // an error: it has ended
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
