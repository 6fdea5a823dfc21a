package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the server runs as; nil: this one.
type account struct{ uid, gid uint32 }

// serverAccount is an unprivileged one when this process is root's: the owner of
// the data, where there are some, so that their owner can go on with them later.
func serverAccount(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return &account{st.Uid, st.Gid}, nil
		}
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("Postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// own gives a file or directory to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// reaches says whether the account may pass through all directories above path.
func (a *account) reaches(path string) bool {
	if a == nil {
		return true
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return false
	}
	for dir := parent; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return false
		}
		if !a.passes(info) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func (a *account) passes(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case st.Uid == a.uid:
		return mode&0o100 != 0
	case st.Gid == a.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// otherPlace is where data are kept whose wanted place is out of the server's reach.
const otherPlace = "/var/lib/jetway"

// elsewhere is for data that the server's user cannot reach where it was wanted
// (below /root, say): a directory of /var/lib, and a link from the wanted place.
// Without the link it is a new directory: who removed the link wanted new data.
func elsewhere(dir string, log *slog.Logger) (string, error) {
	if target, err := os.Readlink(dir); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dir), target)
		}
		return target, os.MkdirAll(filepath.Dir(target), 0o755)
	}
	if err := os.MkdirAll(otherPlace, 0o755); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(dir))
	name := filepath.Join(otherPlace, hex.EncodeToString(sum[:6]))
	real := name
	for n := 2; ; n++ {
		err := os.Mkdir(real, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		real = name + "-" + strconv.Itoa(n)
	}
	_ = os.Remove(dir) // an empty directory
	if err := os.Symlink(real, dir); err != nil {
		_ = os.Remove(real)
		return "", fmt.Errorf("link %s to %s, where the server's user can reach it: %w", dir, real, err)
	}
	log.Info("the database is kept where an unprivileged user can reach it", "dir", real, "link", dir)
	return real, nil
}
