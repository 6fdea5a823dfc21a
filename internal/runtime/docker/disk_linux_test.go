package docker_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// A backend that fills its disk fills its own, and no other notices.
func TestDiskLimit(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		testkit.LeaveOut(t, "tests of disk limits take mkfs.btrfs", "install btrfs-progs")
	}
	dir := t.TempDir()
	file, mounted := filepath.Join(dir, "disk"), filepath.Join(dir, "mounted")
	for _, command := range []string{
		"truncate -s 600M " + file, "mkfs.btrfs -q " + file, "mkdir " + mounted, "mount -o loop " + file + " " + mounted,
	} {
		words := strings.Fields(command)
		if said, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
			testkit.LeaveOut(t, "tests of disk limits mount a disk: "+command+": "+err.Error()+": "+string(said), "run make as root, on a machine that may mount")
		}
	}
	t.Cleanup(func() {
		if said, err := exec.Command("umount", mounted).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v: %s", err, said)
		}
	})
	e := newEngine(t, filepath.Join(mounted, "data"), "--storage-driver", "btrfs")
	s := newStageOn(t, e.Client, nil)
	const limit = 50 << 20
	instance := s.start(s.spec("fill /big", e.fields(limited("disk_limit_bytes", limit)...)...))
	if exit := s.exit(instance); exit.Code != 5 {
		t.Fatalf("ended with %v", exit)
	}
	said := s.rest()
	if len(said) != 1 || said[0].Stream != runtime.Stdout || !strings.Contains(said[0].Text, "quota exceeded") {
		t.Errorf("said %v", said)
	}
	other := s.start(s.spec("append /notes", e.fields()...))
	if exit := s.exit(other); exit.Code != 0 {
		t.Errorf("another ended with %v", exit)
	}
}
