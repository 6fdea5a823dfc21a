package testkit

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk gives a directory on a disk of its own that holds so many bytes and so many
// files. It needs root, as on CI; without, the test is left out.
func SmallDisk(t *testing.T, bytes, files int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, fmt.Sprintf("size=%d,nr_inodes=%d,mode=0700", bytes, files+1))
	if errors.Is(err, unix.EPERM) {
		LeaveOut(t, "tests on a small disk mount one, which is for root", "run make as root")
	}
	if err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
