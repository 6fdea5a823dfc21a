package docker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/docker"
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

func TestMountOfAPath(t *testing.T) {
	t.Parallel()
	base, outside := t.TempDir(), t.TempDir()
	s := newStage(t, func(c *docker.Config) { c.MountBase = base })
	spec := s.spec("append /plane-data/notes", "mount", "a/b")
	if exit := s.exit(s.start(spec)); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	if _, err := os.Stat(filepath.Join(base, "a", "b", "notes")); err != nil {
		t.Fatal(err)
	}
	// What a backend can leave behind in its folder for the next one.
	if err := os.Symlink(outside, filepath.Join(base, "a", "escape")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "a", "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"a/escape", "a/escape/deeper", "a/file", "a/file/deeper"} {
		said := s.refused(s.spec("append /plane-data/notes", "mount", path))
		if !strings.Contains(said, "mount") || strings.Contains(said, outside) || strings.Contains(said, base) {
			t.Errorf("%s: %s", path, said)
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
