package journal_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/messages"
)

// I1: whatever the agent notes, and whenever it writes its journal anew or is replaced, who reads along
// finds exactly the backends of which something may run, and until when each may live.
func TestI1ReaderFindsWhatMayRun(t *testing.T) {
	t.Parallel()
	base := quickDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			rt.Fatal(err)
		}
		m := model{backends: map[string]journal.Backend{}}
		j, _ := open(t, dir)
		defer func() { shut(t, j) }()
		reader := journal.NewReader(dir, boot)
		defer reader.Close()
		lease := journal.Lease{}
		rt.Repeat(map[string]func(*rapid.T){
			"change": func(rt *rapid.T) { m.change(rt, j) },
			"renew": func(rt *rapid.T) {
				lease = journal.Lease{SoftAtMS: rapid.Int64Range(1, 1<<40).Draw(rt, "soft"), HardAtMS: rapid.Int64Range(1, 1<<40).Draw(rt, "hard")}
				if err := j.Renew(lease); err != nil {
					rt.Fatal(err)
				}
			},
			"seal": func(rt *rapid.T) {
				for id, b := range m.backends {
					b.Own = &journal.Lease{SoftAtMS: 1, HardAtMS: rapid.Int64Range(1, 1<<40).Draw(rt, "own")}
					j.Note(journal.Change{BackendID: id, State: &b.State})
					m.backends[id] = b
					return
				}
			},
			"compact": func(rt *rapid.T) {
				if err := j.Compact(); err != nil {
					rt.Fatal(err)
				}
			},
			"another agent": func(rt *rapid.T) {
				shut(t, j)
				var contents journal.Contents
				j, contents = open(t, dir)
				m.check(rt, contents)
			},
			"read": func(rt *rapid.T) {
				if err := reader.Read(); err != nil {
					rt.Fatal(err)
				}
				if len(reader.Backends) != len(m.backends) || reader.Lease != lease || reader.Drone != drone {
					rt.Fatalf("found %v under %v of %q, want %v under %v", reader.Backends, reader.Lease, reader.Drone, m.backends, lease)
				}
				for id, b := range m.backends {
					want := lease
					if b.Own != nil {
						want = *b.Own
					}
					if got := reader.Until(reader.Backends[id]); got != want || reader.Backends[id].Handle != b.Handle {
						rt.Fatalf("%s: %+v until %v, want %v", id, reader.Backends[id], got, want)
					}
				}
			},
		})
	})
}

// What is of another boot means nothing to who reads along.
func TestReaderGoesByNoOtherBoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reader := journal.NewReader(dir, "boot-2")
	defer reader.Close()
	if err := reader.Read(); err != nil { // no agent was here yet
		t.Fatal(err)
	}
	j, _ := open(t, dir)
	take(t, j, taken("b-1"))
	if err := j.Renew(journal.Lease{SoftAtMS: 1, HardAtMS: 2}); err != nil {
		t.Fatal(err)
	}
	if err := reader.Read(); err != nil || len(reader.Backends) > 0 || reader.Lease != (journal.Lease{}) {
		t.Fatalf("%v: %v until %v", err, reader.Backends, reader.Lease)
	}
}

// I1: what somebody does to the file hides nothing from who reads along that he knew before.
func TestI1ReaderKeepsWhatItKnows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	j, _ := open(t, dir)
	take(t, j, taken("b-1"))
	reader := journal.NewReader(dir, boot)
	defer reader.Close()
	if err := reader.Read(); err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(reader.Backends)
	for name, spoil := range map[string]func() error{
		"cut":     func() error { return os.Truncate(path, 0) },
		"removed": func() error { return os.Remove(path) },
		"other":   func() error { return os.WriteFile(path, []byte("what is this\n"), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		err := reader.Read()
		if len(reader.Backends) != len(before) {
			t.Errorf("%s: it knows %v, %v", name, reader.Backends, err)
		}
		if err == nil && name != "removed" {
			t.Errorf("%s: it says nothing", name)
		}
	}
}

// I1: a lease that is half written, or damaged, is none to go by: the one before is.
func TestI1ReaderGoesByNoDamagedLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	take(t, j, taken("b-1"))
	lease := journal.Lease{SoftAtMS: 10, HardAtMS: 20}
	if err := j.Renew(lease); err != nil {
		t.Fatal(err)
	}
	knows, fresh := journal.NewReader(dir, boot), journal.NewReader(dir, boot)
	defer knows.Close()
	defer fresh.Close()
	if err := knows.Read(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lease"), []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*journal.Reader{knows, fresh} {
		if err := r.Read(); err == nil || len(r.Backends) != 1 {
			t.Errorf("it knows %v, %v", r.Backends, err)
		}
	}
	if got := knows.Until(knows.Backends["b-1"]); got != lease {
		t.Errorf("it goes by %+v", got)
	}
	if got := fresh.Until(fresh.Backends["b-1"]); got.HardAtMS < 1<<40 {
		t.Errorf("who knows nothing goes by %+v", got)
	}
	if err := j.Renew(lease); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Read(); err != nil || fresh.Until(fresh.Backends["b-1"]) != lease {
		t.Errorf("renewed, it goes by %+v, %v", fresh.Lease, err)
	}
}

// I8: the file is bounded by what runs, not by what ran.
func TestI8JournalIsBoundedByWhatRuns(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	j, _ := open(t, dir)
	var written int64
	path, last := filepath.Join(dir, "journal"), int64(0)
	for i := 0; written < 3*journal.CompactFrom; i++ {
		id := fmt.Sprint("b-", i)
		take(t, j, taken(id))
		j.Answered([]journal.Mark{j.Note(journal.Change{BackendID: id, Over: true, Report: reportOf(id, messages.Terminated)})})
		j.Answered([]journal.Mark{journal.Mark(2*i + 1)})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 2*journal.CompactFrom {
			t.Fatalf("the file has %d bytes with nothing in it", info.Size())
		}
		written += max(info.Size()-last, 0)
		last = info.Size()
	}
}
