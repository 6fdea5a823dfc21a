//go:build linux

package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// disk is a small file system of its own, which can be full.
type disk struct {
	dir     string
	mounted bool
}

// newDisk mounts one. Only root can; for others it is a directory that is never full.
func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &disk{dir: dir}
	if os.Geteuid() != 0 {
		return d
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Logf("no file system of its own for %s, so it will not be full: %v", dir, err)
		return d
	}
	d.mounted = true
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return d
}

// fill leaves no room; free gives it back.
func (d *disk) fill() error {
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			if pathErr, ok := err.(*os.PathError); ok && pathErr.Err == syscall.ENOSPC { //nolint:errorlint // as os gives it
				return nil
			}
			return fmt.Errorf("fill %s: %w", d.dir, err)
		}
	}
}

func (d *disk) free() error { return os.Remove(filepath.Join(d.dir, "filler")) }
