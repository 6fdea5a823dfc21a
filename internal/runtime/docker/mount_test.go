package docker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// Backends of one key have one folder, whatever they are called; those of another not.
func TestMountOfTheKey(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newStage(t, func(c *docker.Config) { c.MountBase = base })
	for _, key := range []string{"doc/1", "doc/1", "../doc"} {
		spec := s.spec("append /plane-data/notes", "mount", true)
		spec.Namespace, spec.Key = "", key
		if exit := s.exit(s.start(spec)); exit.Code != 0 {
			t.Fatalf("ended with %v", exit)
		}
	}
	for folder, want := range map[string]string{"doc%2F1": "line\nline\n", "%2E.%2Fdoc": "line\n"} {
		got, err := os.ReadFile(filepath.Join(base, folder, "notes"))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", folder, got, err)
		}
	}
}

func TestMountOfANamedFolder(t *testing.T) {
	t.Parallel()
	base, outside := t.TempDir(), t.TempDir()
	s := newStage(t, func(c *docker.Config) { c.MountBase = base })
	spec := s.spec("append /plane-data/notes", "mount", "shared")
	if exit := s.exit(s.start(spec)); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	if _, err := os.Stat(filepath.Join(base, "shared", "notes")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "file", "shared/deeper", "link/deeper"} {
		said := s.refused(s.spec("append /plane-data/notes", "mount", name))
		if !strings.Contains(said, "mount") || strings.Contains(said, outside) || strings.Contains(said, base) {
			t.Errorf("%s: %s", name, said)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) > 0 {
		t.Fatalf("outside: %v, %v", left, err)
	}
	keyless := s.spec("append /plane-data/notes", "mount", true)
	keyless.Key = ""
	if said := s.refused(keyless); !strings.Contains(said, "no key") {
		t.Error(said)
	}
	none := s.spec("append /plane-data/notes", "mount", false)
	if exit := s.exit(s.start(none)); exit.Code != 6 {
		t.Fatalf("without a mount: ended with %v", exit)
	}
}

// The demand: mounts cannot leave their base. A backend that swaps a directory of its folder for a
// link as fast as it can gets nothing of the host, whatever is asked for meanwhile: not by a path
// through its folder, which is refused, and its folder itself it cannot swap.
func TestMountsOfABackendThatSwapsItsDirectoryStayInTheBase(t *testing.T) {
	t.Parallel()
	base, outside := t.TempDir(), t.TempDir()
	s := newStage(t, func(c *docker.Config) { c.MountBase = base })
	swapper := s.start(s.spec("swap "+outside, "mount", "t1"))
	s.line("ready")
	for range testkit.Sized(t, 2, 12) {
		if said := s.refused(s.spec("append /plane-data/notes", "mount", "t1/doc")); !strings.Contains(said, "is not the name of one folder") {
			t.Fatal(said)
		}
		if exit := s.exit(s.start(s.spec("append /plane-data/notes", "mount", "t1"))); exit.Code != 0 {
			t.Fatalf("ended with %v", exit)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) > 0 {
		t.Fatalf("outside: %v, %v", left, err)
	}
	lives(t, swapper)
}
