package journal_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// limitFiles makes all files of this process full at a size.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

// Not in parallel: the limit is the process's.
func TestFullDiskIsSaidAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	info, err := os.Stat(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	lift := limitFiles(t, uint64(info.Size()))
	var last journal.Mark
	note := func(i int) {
		id := fmt.Sprintf("b-%d", i)
		last = j.Note(journal.Change{BackendID: id, Spawn: spawnOf(id), Secret: secret, State: &journal.State{Status: messages.Loading}, Report: reportOf(id, messages.Loading)})
	}
	i := 0
	testkit.Eventually(t, "the disk is full", func() bool {
		note(i)
		i++
		return j.Failing() != nil
	})
	for range 10 { // noted while it is
		note(i)
		i++
	}
	if j.Committed() >= last {
		t.Fatal("committed on a full disk")
	}
	crash, contents := open(t, crashed(t, dir))
	if contents.SetAside != "" {
		t.Fatal("a failed commit damaged the file")
	}
	shut(t, crash)
	lift()
	wait(t, j, last)
	if err := j.Failing(); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	_, contents = open(t, dir)
	if len(contents.Backends) != i || len(contents.Reports) != i {
		t.Fatalf("of %d there are %d backends, %d reports", i, len(contents.Backends), len(contents.Reports))
	}
	if n := len(secrets(t, dir)); n != i {
		t.Fatalf("of %d there are the secrets of %d", i, n)
	}
	for n, r := range contents.Reports {
		if r.BackendID != fmt.Sprintf("b-%d", n) {
			t.Fatalf("I5: report %d is of %s", n, r.BackendID)
		}
	}
}
