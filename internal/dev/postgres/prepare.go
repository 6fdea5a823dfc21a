package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketPrefix begins the names of socket directories.
const socketPrefix = "/tmp/jetway-pg-"

// ErrInUse says that another process runs a cluster in the directory.
var ErrInUse = errors.New("another process runs this database")

// prepare makes the directories and the cluster and ends what an earlier, killed
// process left running in it.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.dir, err = filepath.Abs(c.cfg.Dir); err != nil {
		return err
	}
	if c.account, err = serverAccount(c.dir); err != nil {
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
	if err := c.take(); err != nil {
		return err
	}
	if err := c.endStale(ctx); err != nil {
		return err
	}
	if err := c.init(ctx); err != nil {
		return err
	}
	if c.cfg.TCP {
		if c.port, err = freePort(); err != nil {
			return err
		}
	}
	sweepSockets()
	// Short, for a socket's path has at most 103 bytes (107 on Linux).
	if c.socketDir, err = os.MkdirTemp(filepath.Split(socketPrefix)); err != nil {
		return err
	}
	return c.account.own(c.socketDir)
}

// take makes the cluster this process's until it releases it or ends, however it
// ends. So a server that still runs in it is nobody's, and may be stopped.
func (c *Cluster) take() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock != nil {
		return nil
	}
	file, err := os.OpenFile(c.dir+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the database's lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s", ErrInUse, c.cfg.Dir)
		}
		return fmt.Errorf("lock the database: %w", err)
	}
	c.lock = file
	return nil
}

// init makes the cluster beside its place and moves it there when it is whole, so
// that a killed initdb leaves nothing that looks like one.
func (c *Cluster) init(ctx context.Context) error {
	have, err := os.ReadFile(filepath.Join(c.dir, "PG_VERSION"))
	if err == nil {
		return c.match(ctx, strings.TrimSpace(string(have)))
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
	if err := c.make(ctx, fresh); err != nil {
		return err
	}
	_ = os.Remove(c.dir) // an empty directory
	return os.Rename(fresh, c.dir)
}

// make makes a cluster in a directory that is not there yet.
func (c *Cluster) make(ctx context.Context, dir string) error {
	if c.cfg.From != "" {
		if out, err := exec.CommandContext(ctx, "cp", "-a", c.cfg.From, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the database: %w\n%s", err, tail(string(out), 2000))
		}
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the database's directory: %w", err)
	}
	if err := c.account.own(dir); err != nil {
		return err
	}
	args := []string{"-D", dir, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C"}
	if c.cfg.Ephemeral {
		args = append(args, "--no-sync")
	}
	cmd := c.command(ctx, "initdb", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the database with initdb: %w\n%s", err, tail(string(out), 2000))
	}
	return nil
}

// match finds the programs of the version that made the cluster, which are not
// the newest ones after an upgrade of the system.
func (c *Cluster) match(ctx context.Context, made string) error {
	if made == strconv.Itoa(c.cfg.Binaries.Version) {
		return nil
	}
	for _, b := range findAll(ctx) {
		if made == strconv.Itoa(b.Version) {
			c.cfg.Binaries = b
			return nil
		}
	}
	return fmt.Errorf("%s was made by Postgres %s, the one found here is %d: install that version, or move the directory away", c.cfg.Dir, made, c.cfg.Binaries.Version)
}

// endStale stops a server that a killed process left in this data directory.
func (c *Cluster) endStale(ctx context.Context) error {
	path := filepath.Join(c.dir, "postmaster.pid")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // none was left; what is unreadable the server will say
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 || len(lines) < 2 {
		return nil // cut short; the server judges it
	}
	dir := strings.TrimSpace(lines[1])
	if !serves(ctx, pid, dir) {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			// The number is another process's now. The server would take that
			// one for a server and refuse to start.
			_ = os.Remove(path)
		}
		return nil
	}
	c.cfg.Log.Warn("stopping the database server that an earlier run has left", "dir", c.dir, "pid", pid)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = syscall.Kill(pid, sig)
		for deadline := time.Now().Add(fastTimeout); time.Now().Before(deadline); {
			if !serves(ctx, pid, dir) {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("the database server that an earlier run has left (process %d) does not end", pid)
}

// sweepSockets removes the socket directories of killed runs. Only empty ones can
// be removed so, and those of running servers are not; one that is being made is young.
func sweepSockets() {
	found, _ := filepath.Glob(socketPrefix + "*")
	for _, dir := range found {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(dir)
		}
	}
}
