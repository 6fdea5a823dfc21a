package guard

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// hand is a clock that a test moves.
type hand struct{ atomic.Int64 }

func (h *hand) clock() time.Duration { return time.Duration(h.Load()) * time.Millisecond }

// setting is a journal, and a guard that looks when the test says so.
type setting struct {
	t       *testing.T
	journal *journal.Journal
	dir     string
	hand    hand
	*guardian
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	s := &setting{t: t}
	s.journal, s.dir = newJournal(t)
	var err error
	if s.guardian, err = newGuardian(Config{Dir: s.dir, Clock: s.hand.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reader.Close)
	return s
}

// put has the journal hold a backend, with the lease of all, or one of its own.
func (s *setting) put(id string, process procs.ID, own ...int64) {
	s.t.Helper()
	state := journal.State{Status: messages.Ready, PID: process.PID, Start: process.Start}
	if len(own) > 0 {
		state.Own = &journal.Lease{HardAtMS: own[0]}
	}
	if err := put(s.journal, id, state); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setting) renew(softAtMS, hardAtMS int64) {
	s.t.Helper()
	if err := s.journal.Renew(journal.Lease{SoftAtMS: softAtMS, HardAtMS: hardAtMS}); err != nil {
		s.t.Fatal(err)
	}
}

// look lets the guard look at a time, and says what it thinks.
func (s *setting) look(ms int64) (next time.Duration, needed bool) {
	s.hand.Store(ms)
	return s.round(s.t.Context())
}

// lookUntilDone looks until nothing is left of what was past its deadline.
func (s *setting) lookUntilDone(ms int64) {
	s.t.Helper()
	testkit.Eventually(s.t, "nothing is left", func() bool {
		s.look(ms)
		return len(s.killing) == 0
	})
}

// watched is a process that a test watches.
type watched struct {
	t *testing.T
	*procs.Ref
}

func watch(t *testing.T, pid int) watched {
	t.Helper()
	id, err := procs.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := procs.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ref.Close)
	return watched{t, ref}
}

// ends waits for the end of the process.
func (w watched) ends() {
	w.t.Helper()
	giveUp := time.AfterFunc(testkit.Patience, w.Close)
	defer giveUp.Stop()
	if err := w.Wait(); err != nil {
		w.t.Fatalf("process %d lives: %v", w.PID, err)
	}
}

func (w watched) lives() {
	w.t.Helper()
	if w.Ended() {
		w.t.Fatalf("process %d has ended", w.PID)
	}
}

// run starts a process with a backend's labels, and its children.
func run(t *testing.T, id, drone string, children ...string) (leader watched, others []watched) {
	t.Helper()
	cmd := backendCommand(self(t), id, drone, children...)
	said := listen(t, cmd)
	leader = watch(t, said.number("pid"))
	for _, child := range children {
		others = append(others, watch(t, said.number(child)))
	}
	return leader, others
}

func TestI1GuardEndsWhatIsPastItsHardDeadline(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	leader, children := run(t, "b", droneOf(s.dir), "child", "leaver")
	other, _ := run(t, "other", droneOf(s.dir))
	s.put("b", leader.ID)
	s.put("other", other.ID, 3000)
	s.renew(500, 1000)

	if next, needed := s.look(999); next != time.Second || !needed {
		t.Fatalf("next look at %v, needed %v", next, needed)
	}
	leader.lives() // past the soft deadline, which is the agent's business

	// Renewed at the last moment.
	s.renew(1500, 2000)
	s.look(1000)
	leader.lives()

	s.lookUntilDone(2000)
	leader.ends()
	for _, child := range children {
		child.ends()
	}
	other.lives()
}

// An agent that died between fork and note left a process that no record names; a
// container may have no name of the drone.
func TestI1GuardFindsWhatTheJournalDoesNotName(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	unnoted, _ := run(t, "unnoted", droneOf(s.dir))
	container, _ := run(t, "container-"+droneOf(s.dir), "")
	otherDrones, _ := run(t, "unnoted", "dr-other")
	for _, id := range []string{"unnoted", "container-" + droneOf(s.dir)} {
		s.put(id, procs.ID{})
	}
	s.renew(500, 1000)
	s.lookUntilDone(1000)
	unnoted.ends()
	container.ends()
	otherDrones.lives()

	// One that turns up after everything seemed to have ended is found, too.
	late, _ := run(t, "unnoted", droneOf(s.dir))
	s.look(1001)
	late.lives()
	s.lookUntilDone(1000 + lookLate.Milliseconds())
	late.ends()
}

// I1: what runs of a backend that has claimed a spare carries the spare's id, and the guard ends that, but no spare that nobody has claimed.
func TestI1GuardFindsAClaimedSpare(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	engine := &engine{runs: map[string]bool{"spare-1": true, "spare-2": true}}
	claimed, _ := run(t, "spare-1", droneOf(s.dir))
	other, _ := run(t, "spare-2", droneOf(s.dir))
	if err := put(s.journal, "b-1", journal.State{Status: messages.Ready, Spare: "spare-1", Own: &journal.Lease{HardAtMS: 500}}); err != nil {
		t.Fatal(err)
	}
	s.Engine = engine
	s.look(499)
	claimed.lives()
	s.lookUntilDone(500)
	claimed.ends()
	other.lives()
	if engine.runs["spare-1"] || !engine.runs["spare-2"] {
		t.Errorf("run: %v", engine.runs)
	}
}

func TestGuardKillsNoStranger(t *testing.T) {
	t.Parallel()
	// None has labels: only the journal leads to it.
	for name, spoil := range map[string]func(s *setting, process procs.ID) procs.ID{
		"a reused number": func(_ *setting, process procs.ID) procs.ID {
			process.Start--
			return process
		},
		"another boot": func(s *setting, process procs.ID) procs.ID {
			s.reader = journal.NewReader(s.dir, "another")
			return process
		},
		"removed": func(s *setting, process procs.ID) procs.ID {
			s.put("b", process)
			s.journal.Note(journal.Change{BackendID: "b", Over: true})
			return procs.ID{}
		},
	} {
		s := newSetting(t)
		process, _ := run(t, "", "")
		s.put("b", spoil(s, process.ID))
		s.renew(500, 1000)
		s.look(2000)
		process.lives()
		if _, needed := s.look(2001); needed {
			t.Errorf("%s: the guard stays for it", name)
		}
	}
	// The same record, not spoiled, does lead to it: so the above shows something.
	s := newSetting(t)
	process, _ := run(t, "", "")
	s.put("b", process.ID)
	s.renew(500, 1000)
	s.lookUntilDone(2000)
	process.ends()
}

// A record that is damaged hides no other, and is said.
func TestI1DamagedRecordHidesNoOther(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	process, _ := run(t, "b", droneOf(s.dir))
	path := filepath.Join(s.dir, "journal")
	s.put("torn", procs.ID{})
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.WriteAt([]byte("?"), info.Size()-5)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	s.put("b", process.ID)
	s.renew(500, 1000)
	s.lookUntilDone(1000)
	process.ends()
	if s.unable == nil {
		t.Error("it is not said")
	}
}

// The demand: a drone whose guard could not end what it guards takes nothing, and says why.
func TestGuardSaysThatItCannotEndWhatItGuards(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	engine := &engine{}
	s.Engine = engine
	post := Start(t.Context(), slog.New(slog.DiscardHandler), nil, s.dir, func() {})
	t.Cleanup(post.Wait)
	trouble := func() error {
		s.round(t.Context())
		s.say(t.Context())
		return post.look()
	}
	if err := post.look(); err == nil || !strings.Contains(err.Error(), "jetway-guard@") {
		t.Errorf("nobody stands: %v", err)
	}
	if err := trouble(); err != nil {
		t.Errorf("with an engine that answers: %v", err)
	}
	engine.away = errors.New("nobody there")
	s.unableAt = -ableEvery
	switch err := trouble(); {
	case mayKillAll() && err != nil:
		t.Errorf("without an engine, who may kill all: %v", err)
	case !mayKillAll() && (err == nil || !strings.Contains(err.Error(), "nobody there") || !strings.Contains(err.Error(), "CAP_KILL")):
		t.Errorf("without an engine, who may not: %v", err)
	}
}

// engine is one of containers, as far as a guard needs one.
type engine struct {
	away error
	runs map[string]bool
}

func (e *engine) End(_ context.Context, _ string, clusters map[string]string) (left []string, err error) {
	for id := range clusters {
		if e.runs[id] && e.away == nil {
			left = append(left, id)
			delete(e.runs, id)
		}
	}
	return left, e.away
}

func (e *engine) Able(context.Context) error { return e.away }

// I1: what no signal reaches the engine ends, at the deadline, and as long as it cannot be asked the
// guard does not take it for ended.
func TestI1GuardEndsContainersByTheirEngine(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	engine := &engine{runs: map[string]bool{"b": true, "later": true}}
	s.Engine = engine
	s.put("b", procs.ID{})
	s.put("later", procs.ID{}, 3000)
	s.renew(500, 1000)
	s.look(999)
	if len(engine.runs) != 2 {
		t.Fatal("ended before its deadline")
	}
	engine.away = errors.New("nobody there")
	if _, needed := s.look(1000); !needed || len(s.killing) != 1 {
		t.Fatal("taken for ended while the engine is away")
	}
	engine.away = nil
	s.lookUntilDone(1001)
	if engine.runs["b"] || !engine.runs["later"] {
		t.Fatalf("run: %v", engine.runs)
	}
}

func TestNoGuardStandsWithoutAProgram(t *testing.T) {
	t.Parallel()
	_, dir := newJournal(t)
	for _, command := range [][]string{{filepath.Join(dir, "missing")}, {"/bin/false"}, {"/bin/echo", "hello, I am not a guard"}} {
		ctx, cancel := context.WithCancel(t.Context())
		said := make(chan string, 100)
		post := Start(ctx, slog.New(teller{said: said}), command, dir, func() {})
		for tries := 0; tries < 2; { // it goes on trying
			if strings.Contains(testkit.Receive(t, said, "its word"), "the guard has ended") {
				tries++
			}
		}
		if post.Trouble() == nil {
			t.Errorf("%v stands", command)
		}
		cancel()
		post.Wait()
		if err := post.Await(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: got %v", command, err)
		}
	}
}

func await(t *testing.T, post *Post) {
	t.Helper()
	if err := post.Await(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	if err := post.Trouble(); err != nil {
		t.Fatal(err)
	}
}

// teller hands out what is logged.
type teller struct {
	slog.Handler
	said chan string
}

func (l teller) Enabled(context.Context, slog.Level) bool { return true }

func (l teller) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.said <- r.Message:
	default:
	}
	return nil
}
