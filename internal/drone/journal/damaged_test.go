package journal_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// Bad input: however a file is damaged, the agent starts, uses nothing but what was written, and goes
// on. Of what it had, all is there but for lines that the damage touches; the file is kept beside.
func TestDamagedJournalLocksNobodyOut(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	j, _ := open(t, dir)
	for i := range testkit.Sized(t, 30, 100) {
		c := taken(fmt.Sprint("b-", i))
		c.State.Handle = fmt.Sprint("h-", i)
		take(t, j, c)
	}
	shut(t, j)
	whole, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	_, sound := open(t, dir)
	base, aside, some := quickDir(t), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		damaged := slices.Clone(whole)
		at := rapid.IntRange(0, len(whole)-1).Draw(rt, "at")
		to := min(at+rapid.IntRange(1, 4096).Draw(rt, "size"), len(whole))
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			damaged = damaged[:at]
		case 1:
			damaged[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		case 2:
			clear(damaged[at:to])
		case 3:
			damaged = slices.Delete(damaged, at, to)
		}
		sub, err := os.MkdirTemp(base, "")
		if err == nil {
			err = os.WriteFile(filepath.Join(sub, "journal"), damaged, 0o600)
		}
		if err != nil {
			rt.Fatal(err)
		}
		var said bytes.Buffer
		c := config(t, sub)
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
		j, contents, err := journal.Open(c)
		if err != nil {
			rt.Fatal(err)
		}
		touched := 3 + bytes.Count(whole[at:to], []byte("\n"))
		for id, b := range contents.Backends {
			if !cmp.Equal(b, sound.Backends[id]) {
				if touched--; b.Status != 0 { // else its state is what is damaged
					rt.Fatalf("%s: %+v was not written", id, b)
				}
			}
		}
		for _, r := range contents.Reports {
			if n := int(r.Mark) - 1; n >= len(sound.Reports) || !cmp.Equal(r, sound.Reports[n]) {
				rt.Fatalf("%+v was not written", r)
			}
		}
		switch {
		case contents.SetAside == "":
			if said.Len() > 0 {
				rt.Fatalf("said %s", said.String())
			}
		default:
			aside++
			if kept, err := os.ReadFile(contents.SetAside); err != nil || !bytes.Equal(kept, damaged) {
				rt.Fatalf("what was set aside is not the file: %v", err)
			}
			if strings.Count(said.String(), "\n") != 1 || !strings.Contains(said.String(), "the journal is damaged") {
				rt.Fatalf("said %s", said.String())
			}
		}
		if len(contents.Backends) > 0 && contents.SetAside != "" {
			some++
		}
		take(rt, j, taken("b-next"))
		shut(t, j)
		again, after := open(t, sub) // what was saved is sound
		if after.SetAside != "" || len(after.Backends) != len(contents.Backends)+1 || len(after.Reports) != len(contents.Reports)+1 {
			rt.Fatalf("afterwards %d backends, %d reports, %q", len(after.Backends), len(after.Reports), after.SetAside)
		}
		shut(t, again)
	})
	if aside == 0 || some == 0 {
		t.Fatalf("%d were set aside, %d used in part", aside, some)
	}
}

// Bad input: a journal of another version is set aside, one of another boot or another machine, of which
// nothing runs here, is begun anew. No agent is locked out.
func TestJournalOfElsewhereIsBegunAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(dir string, c *journal.Config) error
		says   string
	}{
		"another boot":    {func(_ string, c *journal.Config) error { c.Boot = "boot-2"; return nil }, "earlier start of the machine"},
		"another machine": {func(_ string, c *journal.Config) error { c.Machine = "m-2"; return nil }, "or of another one"},
		"another version": {func(dir string, _ *journal.Config) error {
			text := `{"version":2,"drone":"dr-1","boot":"boot-1"}`
			return os.WriteFile(filepath.Join(dir, "journal"), journal.Line(text), 0o600)
		}, "of version 2"},
		"zeroed": {func(dir string, _ *journal.Config) error {
			return os.WriteFile(filepath.Join(dir, "journal"), make([]byte, 10_000), 0o600)
		}, "set_aside"},
		"empty": {func(dir string, _ *journal.Config) error {
			return os.WriteFile(filepath.Join(dir, "journal"), nil, 0o600)
		}, "set_aside"},
	} {
		dir := t.TempDir()
		j, _ := open(t, dir)
		take(t, j, taken("b-1"))
		if err := j.Renew(journal.Lease{SoftAtMS: 1, HardAtMS: 2}); err != nil {
			t.Fatal(err)
		}
		shut(t, j)
		cfg := config(t, dir)
		if err := c.change(dir, &cfg); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
		j, contents, err := journal.Open(cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(contents.Backends)+len(contents.Reports) > 0 || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: used %+v, said %s", name, contents, said.String())
		}
		if cfg.Boot != boot && contents.Lease != (journal.Lease{}) {
			t.Errorf("%s: its clock is believed: %+v", name, contents.Lease)
		}
		take(t, j, taken("b-2"))
		shut(t, j)
	}
}

// Bad input: somebody cuts the journal of a running agent short. It takes nothing more and says why; the
// next one uses what can be read.
func TestJournalThatIsCutUnderTheAgentIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	for i := range 3 {
		take(t, j, taken(fmt.Sprint("b-", i)))
	}
	path := filepath.Join(dir, "journal")
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-10)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Take(taken("b-3")); err == nil || !strings.Contains(err.Error(), "restart the agent") {
		t.Fatalf("got %v", err)
	}
	if err := j.Failing(); err == nil {
		t.Fatal("it says nothing")
	}
	j.Note(journal.Change{BackendID: "b-0", State: &journal.State{Status: messages.Ready}})
	_ = j.Close()
	_, contents := open(t, dir)
	if len(contents.Backends) != 3 || contents.SetAside == "" {
		t.Fatalf("the next one finds %+v", contents)
	}
}
