package postgres

import (
	"crypto/sha256"
	"encoding/hex"
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

// serverAccount is an unprivileged one when this process is root's.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
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
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
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

// elsewhere is for data that the server's user cannot reach where it was wanted
// (below /root, say): a directory of /var/lib, and a link from the wanted place.
func elsewhere(dir string, log *slog.Logger) (string, error) {
	sum := sha256.Sum256([]byte(dir))
	real := filepath.Join("/var/lib/jetway", hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(filepath.Dir(real), 0o755); err != nil {
		return "", err
	}
	if target, err := os.Readlink(dir); err != nil || target != real {
		if err := os.Symlink(real, dir); err != nil {
			return "", fmt.Errorf("link %s to %s, where the server's user can reach it: %w", dir, real, err)
		}
	}
	log.Info("the database is kept where an unprivileged user can reach it", "dir", real, "link", dir)
	return real, nil
}
