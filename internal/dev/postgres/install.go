package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Ensure finds a server, or installs one with the system's package manager after
// saying so on out.
func Ensure(ctx context.Context, out io.Writer) (Binaries, error) {
	b, err := Find(ctx)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return b, err
	}
	// The tests of several packages may come here at the same time.
	if file, err := os.OpenFile(filepath.Join(os.TempDir(), "jetway-install.lock"), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		defer file.Close()
		_ = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if b, err := Find(ctx); err == nil {
			return b, nil
		}
	}
	if err := install(ctx, out); err != nil {
		return b, err
	}
	return Find(ctx)
}

// installers are the package managers, first match. Debian's package would start
// a cluster of its own; it is told not to.
var installers = []struct {
	program string
	root    bool
	script  string
}{
	{"apt-get", true, `
export DEBIAN_FRONTEND=noninteractive
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
fi
apt-get update -qq && apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold postgresql`},
	{"brew", false, "brew install postgresql@17"},
	{"dnf", true, "dnf install -y -q postgresql-server"},
	{"apk", true, "apk add --quiet postgresql17"},
	{"pacman", true, "pacman -Sy --noconfirm postgresql"},
}

func install(ctx context.Context, out io.Writer) error {
	for _, i := range installers {
		if _, err := exec.LookPath(i.program); err != nil {
			continue
		}
		argv, with := []string{"sh", "-ec", i.script}, i.program
		if i.root && os.Geteuid() != 0 {
			if _, err := exec.LookPath("sudo"); err != nil {
				return fmt.Errorf("no Postgres server is installed, and without root or sudo it cannot be: install the package postgresql, %d or newer", MinVersion)
			}
			argv, with = append([]string{"sudo"}, argv...), "sudo "+i.program // it may ask for a password: say why
		}
		fmt.Fprintf(out, "No Postgres server is installed: installing it with %s …\n", with)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdin = os.Stdin // sudo may ask
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install Postgres with %s: %w; that failing, install the package postgresql, %d or newer, yourself\n%s", with, err, MinVersion, tail(said.String(), 2000))
		}
		return nil
	}
	return fmt.Errorf("no Postgres server is installed and no package manager is known here: install Postgres %d or newer", MinVersion)
}

func tail(s string, n int) string {
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return strings.TrimSpace(s)
}
