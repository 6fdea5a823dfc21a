package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const drone, boot = "dr-1", "boot-1"

func config(tb testing.TB, dir string) journal.Config {
	tb.Helper()
	return journal.Config{Dir: dir, Drone: drone, Machine: "m-1", Boot: boot, Log: testkit.Logger(tb)}
}

func open(tb testing.TB, dir string) (*journal.Journal, journal.Contents) {
	tb.Helper()
	j, contents, err := journal.Open(config(tb, dir))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j, contents
}

func shut(tb testing.TB, j *journal.Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Fatal(err)
	}
}

// take notes a backend that is taken on.
func take(tb interface{ Fatal(args ...any) }, j *journal.Journal, c journal.Change) journal.Mark {
	mark, err := j.Take(c)
	if err != nil {
		tb.Fatal(err)
	}
	return mark
}

// quickDir gives a directory in memory where there is one: what is tested many
// times over does not wait for a disk.
func quickDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "jetway-test-journal-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// crashed gives the directory as the next agent would find it were this one killed now.
func crashed(tb testing.TB, dir string) string {
	tb.Helper()
	after := tb.TempDir()
	names := []string{"journal"}
	for _, id := range secrets(tb, dir) {
		names = append(names, filepath.Join("secrets", id))
	}
	err := os.Mkdir(filepath.Join(after, "secrets"), 0o700)
	for _, name := range names {
		// Not by os.CopyFS: at a limit of the size it fails for a file of that size.
		var file []byte
		if err == nil {
			file, err = os.ReadFile(filepath.Join(dir, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(after, name), file, 0o600)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return after
}

// secret is the executable of spawnOf, with what must not stay on a disk.
var secret = json.RawMessage(`{"command":["room"],"secret":"hush"}`)

// secrets gives whose are on the disk.
func secrets(tb testing.TB, dir string) (ids []string) {
	tb.Helper()
	files, err := os.ReadDir(filepath.Join(dir, "secrets"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		ids = append(ids, file.Name())
	}
	return ids
}

func spawnOf(id string) *messages.Spawn {
	return &messages.Spawn{
		Session: "s", Key: messages.Key{Name: "doc-" + id}, FencingToken: 7,
		Deadlines: messages.Deadlines{SoftTerminateAtMS: 1, HardTerminateAtMS: 2}, Executable: []byte(`{"command":["room"]}`),
	}
}

func taken(id string) journal.Change {
	return journal.Change{BackendID: id, Spawn: spawnOf(id), State: &journal.State{Status: messages.Loading}, Report: reportOf(id, messages.Loading)}
}

func reportOf(id string, status messages.Status) *messages.Report {
	return &messages.Report{BackendID: id, State: messages.State{Status: status, Message: "of " + id}}
}

// model is what a journal is to have.
type model struct {
	backends map[string]journal.Backend
	reports  []journal.Unreported
}

func (m *model) check(tb interface{ Fatalf(string, ...any) }, got journal.Contents) {
	if diff := cmp.Diff(m.backends, got.Backends, cmpopts.EquateEmpty()); diff != "" {
		tb.Fatalf("backends: %s", diff)
	}
	if diff := cmp.Diff(m.reports, got.Reports, cmpopts.EquateEmpty()); diff != "" {
		tb.Fatalf("reports: %s", diff)
	}
}

// checkSecrets compares whose secrets there are with whose start still needs them.
func (m *model) checkSecrets(tb interface{ Fatalf(string, ...any) }, got []string) {
	var want []string
	for id, b := range m.backends {
		if !b.Begun && bytes.Equal(b.Spawn.Executable, secret) {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		tb.Fatalf("there are the secrets of %v, want %v", got, want)
	}
}

// change does something that an agent does, and notes it in the model too.
func (m *model) change(t *rapid.T, j *journal.Journal) {
	id := fmt.Sprintf("b-%d", rapid.IntRange(0, 9).Draw(t, "backend"))
	c := journal.Change{BackendID: id}
	b, known := m.backends[id]
	switch {
	case len(m.reports) > 0 && rapid.IntRange(0, 3).Draw(t, "answer") == 0:
		n := rapid.IntRange(1, len(m.reports)).Draw(t, "answered")
		var marks []journal.Mark
		for _, r := range m.reports[:n] {
			marks = append(marks, r.Mark)
		}
		m.reports = slices.Clone(m.reports[n:])
		j.Answered(marks)
		return
	case !known:
		b = journal.Backend{Spawn: *spawnOf(id), State: journal.State{Status: messages.Loading}}
		c.Spawn, c.State = spawnOf(id), &b.State
		if rapid.Bool().Draw(t, "secret") {
			c.Secret = secret
			b.Spawn.Executable = secret
		}
		m.backends[id] = b
	case rapid.IntRange(0, 3).Draw(t, "over") == 0:
		c.Over = true
		delete(m.backends, id)
	default:
		b.State = journal.State{Status: messages.Ready, Begun: true, Handle: "h-" + id, Address: "127.0.0.1:1", Reason: messages.ReasonSwept, Message: "enough"}
		b.Spawn.Executable = spawnOf(id).Executable // what it needed to begin is forgotten
		c.State = &b.State
		m.backends[id] = b
	}
	c.Report = reportOf(id, messages.Loading)
	noted := j.Note
	if c.Spawn != nil {
		noted = func(c journal.Change) journal.Mark { return take(t, j, c) }
	}
	mark := noted(c)
	m.reports = append(m.reports, journal.Unreported{Mark: mark, Report: *c.Report})
}

func TestI3I5WhatWasNotedIsThereAfterAnyEnd(t *testing.T) {
	t.Parallel()
	base := quickDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			rt.Fatal(err)
		}
		m := model{backends: map[string]journal.Backend{}}
		for range rapid.IntRange(1, 4).Draw(rt, "runs") {
			j, contents := open(t, dir)
			m.check(rt, contents)
			for range rapid.IntRange(0, 5).Draw(rt, "waits") {
				for range rapid.IntRange(0, 8).Draw(rt, "changes") {
					m.change(rt, j)
				}
				m.checkSecrets(rt, secrets(t, dir))
			}
			shut(t, j)
		}
		j, contents := open(t, dir)
		m.check(rt, contents)
		shut(t, j)
	})
}

func TestI3I5WhatIsNotedOutlivesTheAgentAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	m := model{backends: map[string]journal.Backend{}}
	for i := range 20 {
		id := fmt.Sprintf("b-%d", i)
		b := journal.Backend{Spawn: *spawnOf(id), State: journal.State{Status: messages.Loading}}
		b.Spawn.Executable = secret
		m.backends[id] = b
		report := reportOf(id, messages.Loading)
		mark := take(t, j, journal.Change{BackendID: id, Spawn: spawnOf(id), Secret: secret, State: &b.State, Report: report})
		m.reports = append(m.reports, journal.Unreported{Mark: mark, Report: *report})
		again, contents := open(t, crashed(t, dir))
		m.check(t, contents)
		shut(t, again)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	var wg sync.WaitGroup
	const backends = 500
	for i := range backends {
		wg.Go(func() {
			id := fmt.Sprintf("b-%d", i)
			for _, status := range []messages.Status{messages.Loading, messages.Starting, messages.Ready} {
				c := journal.Change{BackendID: id, State: &journal.State{Status: status}, Report: reportOf(id, status)}
				if status == messages.Loading {
					c.Spawn = spawnOf(id)
					take(t, j, c)
				} else {
					j.Note(c)
				}
			}
		})
	}
	wg.Wait()
	shut(t, j)
	_, contents := open(t, dir)
	if len(contents.Backends) != backends || len(contents.Reports) != 3*backends {
		t.Fatalf("%d backends, %d reports", len(contents.Backends), len(contents.Reports))
	}
	last := map[string]messages.Status{}
	for _, r := range contents.Reports {
		if r.Status <= last[r.BackendID] {
			t.Fatalf("I5: %s: %s after %s", r.BackendID, r.Status, last[r.BackendID])
		}
		last[r.BackendID] = r.Status
	}
}

func TestSecondAgentOfADataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	_, _, err := journal.Open(config(t, dir))
	if !errors.Is(err, journal.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
	shut(t, j)
	open(t, dir)
}

func TestDataDirectoryOfAnotherDroneIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := open(t, dir)
	shut(t, j)
	other := config(t, dir)
	other.Drone = "dr-2"
	_, _, err := journal.Open(other)
	if err == nil || !strings.Contains(err.Error(), "it is of drone dr-1, not dr-2") {
		t.Fatalf("got %v", err)
	}
	open(t, dir) // and was left as it is
}

func TestDataDirectoryThatCannotBeIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := journal.Open(config(t, filepath.Join(file, "data"))); err == nil || !strings.Contains(err.Error(), "data directory") {
		t.Fatalf("got %v", err)
	}
}

func TestNoneRemembersNothing(t *testing.T) {
	t.Parallel()
	var j *journal.Journal
	mark := j.Note(journal.Change{BackendID: "b", Report: reportOf("b", messages.Ready)})
	j.Answered([]journal.Mark{mark})
	_, err := j.Take(journal.Change{BackendID: "b", Spawn: spawnOf("b")})
	if err := errors.Join(err, j.Failing(), j.Renew(journal.Lease{}), j.Close()); err != nil {
		t.Fatal(err)
	}
}
