package pgtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/migrations"
)

// original is the cluster of which those of tests are copies: initdb and all migrations cost more than most tests do, so
// they are done once on a machine and not by each test binary. It has the template of tests' databases, and the
// database that [postgres.Start] gives is a copy of that.
var original struct {
	once sync.Once
	dir  string
	form string // of the template
	err  error
}

// originalsPrefix begins the name of the directory of originals, one for each user.
const originalsPrefix = "jetway-original-"

// originalsKept is how long an original is kept that no test binary asks for: that of another branch may be asked for again.
const originalsKept = 24 * time.Hour

// originalOf gives the data directory of the original, which does not run, and knows the form of its template from then on. The first test binary that
// asks makes it, and others wait.
func originalOf(ctx context.Context, binaries postgres.Binaries) (dir string, err error) {
	o := &original
	o.once.Do(func() { o.dir, o.form, o.err = findOriginal(ctx, binaries) })
	return o.dir, o.err
}

func findOriginal(ctx context.Context, binaries postgres.Binaries) (dir, form string, err error) {
	all := filepath.Join(os.TempDir(), fmt.Sprint(originalsPrefix, os.Getuid()))
	if err := os.MkdirAll(all, 0o755); err != nil {
		return "", "", err
	}
	key, err := originalKey(binaries)
	if err != nil {
		return "", "", err
	}
	place := filepath.Join(all, key)
	lock, err := os.OpenFile(place+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", "", err
	}
	dir, formFile := filepath.Join(place, "pg"), filepath.Join(place, "form")
	if text, err := os.ReadFile(formFile); err == nil {
		now := time.Now()
		return dir, string(text), os.Chtimes(place, now, now)
	}
	forget(all)
	fresh := place + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", "", err
	}
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return "", "", err
	}
	if form, err = makeOriginal(ctx, filepath.Join(fresh, "pg"), binaries); err != nil {
		return "", "", fmt.Errorf("make the original of the tests' databases: %w", err)
	}
	if err := lighten(ctx, filepath.Join(fresh, "pg"), binaries); err != nil {
		return "", "", fmt.Errorf("lighten the original of the tests' databases: %w", err)
	}
	if err := os.WriteFile(filepath.Join(fresh, "form"), []byte(form), 0o644); err != nil {
		return "", "", err
	}
	return dir, form, os.Rename(fresh, place)
}

// originalKey is another one for whatever makes another original.
func originalKey(binaries postgres.Binaries) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, "lightened", binaries.Dir, binaries.Version, laterSQL, formSQL, bareSQL)
	if info, err := os.Stat(filepath.Join(binaries.Dir, "postgres")); err == nil {
		fmt.Fprintln(hash, info.Size(), info.ModTime())
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			if strings.HasSuffix(m.Path, "/tern/v2") { // it notes the version
				fmt.Fprintln(hash, m.Version)
			}
		}
	}
	err := fs.WalkDir(migrations.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.FS, path)
		fmt.Fprintf(hash, "%s %q\n", path, text)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil))[:16], err
}

// forget removes originals that nobody has asked for in a while.
func forget(all string) {
	entries, _ := os.ReadDir(all)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && time.Since(info.ModTime()) > originalsKept {
			_ = os.RemoveAll(filepath.Join(all, e.Name()))
		}
	}
}

// template is the migrated database that the tests' are copies of.
const template = "migrated"

// bareSQL takes away what the migrations' store has set: each test says how long its leases live, and where its database is at home.
const bareSQL = "delete from setting; delete from home"

// makeOriginal makes a cluster with the template, stops it, and gives the template's form.
func makeOriginal(ctx context.Context, dir string, binaries postgres.Binaries) (form string, err error) {
	c, err := postgres.Start(ctx, postgres.Config{Dir: dir, Binaries: binaries, Ephemeral: true})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Stop(context.WithoutCancel(ctx)) }()
	conn, err := pgx.Connect(ctx, c.DSN()+" dbname=postgres")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "create database "+template); err != nil {
		return "", err
	}
	dsn := c.DSN() + " dbname=" + template
	st, err := store.Open(ctx, store.Config{DSN: dsn + patient()})
	if err != nil {
		return "", err
	}
	err = st.Migrate(ctx)
	st.Close()
	if err != nil {
		return "", err
	}
	in, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	for _, sql := range []string{laterSQL, bareSQL} {
		if err == nil {
			_, err = in.Exec(ctx, sql)
		}
	}
	if err == nil {
		form, err = formOf(ctx, in)
	}
	_ = in.Close(ctx)
	for used := true; err == nil && used; { // nobody may be in a database that is copied
		err = conn.QueryRow(ctx, "select exists (select from pg_stat_activity where datname = $1)", template).Scan(&used)
	}
	if err != nil {
		return "", err
	}
	for _, sql := range []string{"drop database jetway", "create database jetway template " + template, "checkpoint"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	return form, nil
}

// lighten takes out of the log of a cluster that was shut down what its copies need not have, which is half of all there
// is to copy: the segments after the one that is written to, and in that the zeros after what is written.
func lighten(ctx context.Context, dir string, binaries postgres.Binaries) error {
	control := exec.CommandContext(ctx, filepath.Join(binaries.Dir, "pg_controldata"), dir)
	control.Env = []string{"LC_ALL=C"}
	said, err := control.Output()
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(said), "REDO WAL file:")
	current, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	segments, err := filepath.Glob(filepath.Join(dir, "pg_wal", strings.Repeat("[0-9A-F]", len(current))))
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("no segment of the log is found, of which %q is the current one: %w", current, err)
	}
	for _, path := range segments {
		if filepath.Base(path) > current {
			err = os.Remove(path)
		} else {
			err = makeSparse(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeSparse has the zeros at the end of a file take no room.
func makeSparse(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Truncate(path, int64(len(bytes.TrimRight(text, "\x00")))); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(text)))
}

// StackData makes a data directory for a stack (dev.Config.Data) whose database is there already. It is not one of
// t.TempDir's, for the user of Postgres passes through. The caller removes it.
func StackData() (dir string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), max(testkit.Patience, 5*time.Minute)) // Postgres may have to be installed
	defer cancel()
	binaries, err := postgres.Ensure(ctx, os.Stderr)
	if err != nil {
		return "", err
	}
	from, err := originalOf(ctx, binaries)
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "jetway-stack-"); err != nil {
		return "", err
	}
	if err = os.Chmod(dir, 0o755); err == nil {
		err = exec.CommandContext(ctx, "cp", "-a", from, filepath.Join(dir, "postgres")).Run()
	}
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return dir, err
}
