package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinVersion is the oldest major version that Jetway runs on.
const MinVersion = 15

// Binaries is where a Postgres server's programs are.
type Binaries struct {
	Dir     string
	Version int // major
}

// ErrNotFound says that no Postgres server of MinVersion or newer is installed.
var ErrNotFound = errors.New("no Postgres server is installed")

// places are where packages put server programs outside of PATH.
var places = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // Fedora, RHEL
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
}

// Find gives the newest server programs of MinVersion or later, in PATH or where
// the systems' packages put them; ErrNotFound when there are none.
func Find(ctx context.Context) (Binaries, error) {
	all := findAll(ctx)
	if len(all) == 0 {
		return Binaries{}, fmt.Errorf("%w: looked for postgres and initdb, version %d or newer, in PATH and %s; install the package postgresql", ErrNotFound, MinVersion, strings.Join(places, ", "))
	}
	return slices.MaxFunc(all, func(a, b Binaries) int { return a.Version - b.Version }), nil
}

// findAll gives what there is of MinVersion or later, that of PATH first.
func findAll(ctx context.Context) (all []Binaries) {
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// A link in PATH may stand alone; initdb is beside what it leads to.
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && filepath.IsAbs(real) {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, pattern := range places {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	seen := map[string]bool{}
	for _, dir := range dirs {
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if v, err := version(ctx, dir); err == nil && v >= MinVersion {
			all = append(all, Binaries{dir, v})
		}
	}
	return all
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func version(ctx context.Context, dir string) (int, error) {
	for _, program := range []string{"initdb", "postgres"} {
		out, err := exec.CommandContext(ctx, filepath.Join(dir, program), "--version").Output()
		if err != nil {
			return 0, err
		}
		if m := versionPattern.FindSubmatch(out); program == "postgres" && m != nil {
			return strconv.Atoi(string(m[1]))
		}
	}
	return 0, fmt.Errorf("%s/postgres does not say its version", dir)
}
