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
	// From is a data directory of a cluster that does not run, of the same version: a new cluster is a copy of it,
	// which takes a tenth of the time of a fresh one and has its system identifier. For tests only.
	From string
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
	startTimeout = 5 * time.Minute // crash recovery may take a while
	// A predecessor's last processes end as soon as they are given time to.
	againFor    = time.Minute
	startPause  = 200 * time.Millisecond
	fastTimeout = 5 * time.Second
)

// Cluster is a running server.
type Cluster struct {
	cfg       Config
	dir       string   // the real data directory
	lock      *os.File // held while the cluster is ours
	socketDir string
	account   *account
	port      int // TCP; also names the socket

	mu   sync.Mutex // guards lock, and cmd and done over Restart
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
		c.release()
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// release gives up what only one cluster can have.
func (c *Cluster) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socketDir != "" {
		_ = os.RemoveAll(c.socketDir)
	}
	if c.lock != nil {
		_ = c.lock.Close()
		c.lock = nil
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

// run starts the server. What is known to pass is tried again: a predecessor's
// last processes, and another's use of the port that was free just now.
func (c *Cluster) run(ctx context.Context) error {
	for begun := time.Now(); ; {
		err := c.runOnce(ctx)
		switch {
		case err == nil || time.Since(begun) > againFor:
			return err
		case strings.Contains(err.Error(), "pre-existing shared memory block"):
		case c.cfg.TCP && strings.Contains(err.Error(), "Address already in use"):
		default:
			return err
		}
		select {
		case <-time.After(startPause):
		case <-ctx.Done():
			return err
		}
	}
}

func (c *Cluster) runOnce(ctx context.Context) error {
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
		c.Kill()
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
	defer c.release()
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
	if err := c.take(); err != nil {
		return err
	}
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
