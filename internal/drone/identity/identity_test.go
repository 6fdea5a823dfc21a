package identity_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// newName is one that no other agent of this machine has.
func newName() string { return fmt.Sprintf("dr-%x", rand.Uint64()) }

type who struct{ MachineID, BootID string }

// of takes a name for a moment, and gives what is known then.
func of(t *testing.T, dir string) (is who, logged string) {
	t.Helper()
	var log bytes.Buffer
	id, err := identity.Take(newName(), dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Release(); err != nil {
		t.Fatal(err)
	}
	request := messages.Encode(messages.RegisterRequest{Session: "s", MachineID: id.MachineID, BootID: id.BootID, Cluster: "a", DroneTimeMS: 1})
	if _, err := messages.Decode[messages.RegisterRequest](request); err != nil {
		t.Fatalf("the workers refuse it: %v", err)
	}
	return who{id.MachineID, id.BootID}, log.String()
}

func TestMachineHasOneIDInItsDataDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first, _ := of(t, dir)
	if second, logged := of(t, dir); second != first || logged != "" {
		t.Fatalf("%+v, then %+v: %s", first, second, logged)
	}
	info, err := os.Stat(filepath.Join(dir, "machine-id"))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if other, _ := of(t, filepath.Join(t.TempDir())); other.MachineID == first.MachineID || other.BootID != first.BootID {
		t.Fatalf("%+v, and %+v elsewhere", first, other)
	}
}

func TestWithoutADataDirectoryEachRunIsAnotherMachine(t *testing.T) {
	t.Parallel()
	first, _ := of(t, "")
	if second, _ := of(t, ""); second.MachineID == first.MachineID {
		t.Fatalf("%+v twice", first)
	}
}

// I1: two that run from copies of one directory must not count as one that was started again.
func TestI1CopiedDataDirectoryIsAnotherMachine(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	first, _ := of(t, dir)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	second, logged := of(t, copied)
	if second.MachineID == first.MachineID || !strings.Contains(logged, "copied") {
		t.Fatalf("both are %s: %s", first.MachineID, logged)
	}
	for where, want := range map[string]who{dir: first, copied: second} {
		if again, logged := of(t, where); again != want || logged != "" {
			t.Fatalf("%+v became %+v: %s", want, again, logged)
		}
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if again, _ := of(t, moved); again != first {
		t.Fatalf("%+v became %+v when it was moved", first, again)
	}
}

func TestI1DamagedMachineIDIsReplaced(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "\n", "abc", strings.Repeat("a", 26), strings.Repeat("A", 26) + " 1 1\n", strings.Repeat("x", 1<<16)} {
		dir := t.TempDir()
		path := filepath.Join(dir, "machine-id")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		first, logged := of(t, dir)
		if !strings.Contains(logged, "damaged") || !strings.Contains(logged, path) {
			t.Errorf("%.40q: logged %s", bad, logged)
		}
		if second, logged := of(t, dir); second != first || logged != "" {
			t.Errorf("%.40q: %+v, then %+v: %s", bad, first, second, logged)
		}
	}
}

// An id that cannot be kept is one of this run: nothing is freed by it that another may run.
func TestI1MachineIDThatCannotBeKeptIsOfThisRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "machine-id", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, logged := of(t, dir)
	if second, _ := of(t, dir); second.MachineID == first.MachineID || !strings.Contains(logged, "cannot be kept") {
		t.Fatalf("%s twice: %s", first.MachineID, logged)
	}
}
